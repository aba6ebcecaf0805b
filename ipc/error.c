/* error: the one table of everything a client can be refused with. PROTOCOL.md repeats it for
 * people; a test compares the two.
 *
 * Exit codes of the CLI follow sysexits.h where that has a word for it: 64 the request is wrong,
 * 65 the model's data is wrong, 66 no such thing, 69 not available here, 70 our fault, 71 not
 * enough memory, 73 what has to be written cannot be, 75 try again later, 76 the two sides do not
 * understand each other, 77 not allowed; and 124 and 130 as timeout(1) and the shell use them for a
 * passed deadline and an interruption. */
#include "ipc/error.h"

#define ROW(code_, number_, retryable_, exit_, name_, meaning_, hint_)                             \
    [code_] = {.code = code_,                                                                      \
               .number = number_,                                                                  \
               .retryable = retryable_,                                                            \
               .exit_code = exit_,                                                                 \
               .name = name_,                                                                      \
               .meaning = meaning_,                                                                \
               .hint = hint_}

static const struct error_info table[ERR_CODES] = {
    ROW(ERR_NONE, 0, false, 0, "none", "Nothing went wrong.", "Nothing to do."),
    ROW(ERR_BAD_REQUEST, 400, false, 64, "bad_request",
        "A field of the request is missing, has the wrong type or is out of range.",
        "Correct the field that the message names."),
    ROW(ERR_BAD_FRAME, 400, false, 76, "bad_frame",
        "The bytes on the connection are not a frame of this protocol.",
        "Check that client and server are the same project, and that nothing else writes to the "
        "socket."),
    ROW(ERR_BAD_PROTOCOL, 400, false, 76, "bad_protocol",
        "Client and server share no protocol version, or the client requires a feature that the "
        "server does not have.",
        "Install client and daemon of the same release."),
    ROW(ERR_UNKNOWN_QUANTIZATION, 400, false, 64, "unknown_quantization",
        "The request names a quantization that does not exist.",
        "Use one of the names that the message lists, or leave the field out."),
    ROW(ERR_UNSUPPORTED, 400, false, 64, "unsupported",
        "The request is understood, but this server does not offer what it asks for.",
        "Leave the named part out, or use a server that offers it."),
    ROW(ERR_UNKNOWN_PEER, 401, false, 77, "unknown_peer",
        "The server's policy names neither this user nor any of the user's groups.",
        "Ask the administrator to add the user or a group to the policy."),
    ROW(ERR_FORBIDDEN, 403, false, 77, "forbidden",
        "The server's policy does not allow this user to do that.",
        "Ask the administrator for the permission that the message names."),
    ROW(ERR_NO_MODEL, 404, false, 66, "no_model",
        "There is no model of that name, or none was named and there is no default.",
        "Name one that `onebit list` shows with `-m`, or set `default` in [models]; new files go "
        "into "
        "the daemon's models folder."),
    ROW(ERR_NO_REQUEST, 404, false, 66, "no_request",
        "The request to cancel does not exist, or has ended already.",
        "See what runs with `onebit ps`."),
    ROW(ERR_QUANTIZATION_MISMATCH, 409, false, 65, "quantization_mismatch",
        "The model's file has another quantization than the request expects.",
        "Name the quantization that the message gives, or leave the field out."),
    ROW(ERR_DUPLICATE_ID, 409, false, 70, "duplicate_id",
        "The request's id is in use by a running request of the same connection.",
        "Give every request of a connection an id of its own."),
    ROW(ERR_MODEL_BUSY, 409, true, 75, "model_busy",
        "The model cannot be unloaded while requests use it.",
        "Wait for the requests to end, or cancel them first."),
    ROW(ERR_NO_TEMPLATE, 409, false, 65, "no_template",
        "The model has no chat template that this server knows.",
        "Name a template in `chat_template`, of the request or of the model's configuration, or "
        "send a plain prompt."),
    ROW(ERR_CONTEXT_TOO_LONG, 413, false, 64, "context_too_long",
        "The prompt and the room for an answer do not fit the model's context.",
        "Shorten the prompt, or ask for fewer tokens; `have` and `limit` give both counts."),
    ROW(ERR_FRAME_TOO_LONG, 413, false, 64, "frame_too_long",
        "A frame is longer than the receiver accepts.",
        "Send less at once; the server's hello says how many bytes it accepts."),
    ROW(ERR_QUEUE_FULL, 429, true, 75, "queue_full",
        "Too many requests wait already, of this user or in all.",
        "Retry after the time that `retry_after_ms` gives."),
    ROW(ERR_RATE_LIMITED, 429, true, 75, "rate_limited",
        "A rate limit is used up; the message names it.",
        "Retry after the time that `retry_after_ms` gives."),
    ROW(ERR_TOO_MANY_CONNECTIONS, 429, true, 75, "too_many_connections",
        "Too many connections are open, of this user or in all.",
        "Close connections that are not in use; one connection carries many requests."),
    ROW(ERR_CANCELLED, 499, false, 130, "cancelled",
        "The request was cancelled by its client or by somebody who may.",
        "Nothing to do; send it again when it is wanted after all."),
    ROW(ERR_INTERNAL, 500, true, 70, "internal", "The server made a mistake of its own.",
        "Retry; if it happens again, look at the daemon's log and report it."),
    ROW(ERR_REQUEST_CRASHED, 500, false, 70, "request_crashed",
        "The engine died on this request, and again when it ran alone.",
        "Do not send it again unchanged; report the model and the daemon's log."),
    ROW(ERR_MODEL_MALFORMED, 500, false, 65, "model_malformed",
        "The model's file is damaged or is no model.",
        "Download or convert the file again; `onebit-lab verify` says what is wrong where."),
    ROW(ERR_MODEL_UNSUPPORTED, 500, false, 69, "model_unsupported",
        "The model's file is sound, but has a format, graph or tokenizer that this engine does not "
        "run.",
        "Use a file in a supported format; `onebit-lab info` shows what the file has."),
    ROW(ERR_NOT_FINITE, 500, false, 65, "not_finite",
        "The model computed a number that is not finite.",
        "The weights are likely damaged: compare the file's checksum with its origin."),
    ROW(ERR_OVERLOADED, 503, true, 75, "overloaded",
        "The machine is short of memory, too hot or too busy for this request.",
        "Retry after the time that `retry_after_ms` gives."),
    ROW(ERR_DRAINING, 503, true, 75, "draining",
        "The daemon is stopping: it finishes what runs and takes nothing new.",
        "Retry once the daemon is back."),
    ROW(ERR_ENGINE_UNAVAILABLE, 503, true, 69, "engine_unavailable",
        "The engine process cannot be started.",
        "Look at the daemon's log; check that `onebit-runner` is installed."),
    ROW(ERR_BREAKER_OPEN, 503, true, 75, "breaker_open",
        "The model failed repeatedly and rests; one request is let through later to try it.",
        "Retry after the time that `retry_after_ms` gives, or use another model."),
    ROW(ERR_DEADLINE, 504, true, 124, "deadline",
        "The first token could not be made before the request's deadline.",
        "Give a longer `deadline_ms`, a shorter prompt, or a higher class."),
    ROW(ERR_TIMEOUT, 504, true, 124, "timeout",
        "The other side of the connection was silent or too slow for too long.",
        "Send each frame without pause, read what comes, and connect again."),
    ROW(ERR_MODEL_TOO_BIG, 507, false, 71, "model_too_big",
        "The model does not fit into the memory that the server may use.",
        "Use a smaller model or context, or raise the daemon's memory budget; `have` and `limit` "
        "give the bytes needed and available."),
    ROW(ERR_NO_SESSION, 404, false, 66, "no_session", "This user has no session of that name.",
        "See which there are with `onebit session list`."),
    ROW(ERR_SESSION_BUSY, 409, true, 75, "session_busy",
        "Another request of the same session has not ended.",
        "Wait for it to end, or cancel it; a session takes one turn at a time."),
    ROW(ERR_SESSION_MISMATCH, 409, false, 65, "session_mismatch",
        "The session was begun with another model or quantization.",
        "Leave the field that the message names out, or begin another session."),
    ROW(ERR_SESSIONS_FULL, 507, false, 71, "sessions_full",
        "No more sessions, or no more bytes of them, may be kept for this user.",
        "Drop sessions that are no longer needed, or ask the administrator to raise [sessions]."),
    ROW(ERR_MODEL_CHANGED, 409, true, 75, "model_changed",
        "The model's file was replaced while the answer was being made, and the answer cannot go "
        "on with other weights.",
        "Send the request again: it is answered from the file that is there now."),
    ROW(ERR_CACHE_UNWRITABLE, 507, false, 73, "cache_unwritable",
        "The packed form of the model cannot be written to the daemon's cache folder.",
        "Free space there, or set `dir` in [cache] to a folder that can be written; where space "
        "is short, `have` and `limit` give the bytes needed and free."),
    ROW(ERR_EVICTED, 503, true, 75, "evicted",
        "The request was being answered, and the machine became so short of memory that it could "
        "not go on; what was delivered of its answer stands.",
        "Retry after the time that `retry_after_ms` gives, or ask again from where the answer "
        "stands."),
};

const struct error_info *error_info(enum error_code code)
{
    return (unsigned)code < ERR_CODES ? &table[code] : &table[ERR_INTERNAL];
}

enum error_code error_by_name(struct strview name)
{
    for (unsigned i = ERR_NONE + 1; i < ERR_CODES; i++) {
        if (strview_is(name, table[i].name)) {
            return table[i].code;
        }
    }
    return ERR_NONE;
}
