// Goal: a C++ program can use the header as it is. Method: it is compiled with every warning an
// error, and run against a daemon (tests/integration/test_library.py): one answer, a batch of
// three, and a cancelled request.
#include <onebit.h>

#include <cstdio>
#include <string>
#include <vector>

namespace
{

void on_delta(onebit_conn *, uint32_t, const onebit_delta *delta, void *user)
{
    static_cast<std::string *>(user)->append(delta->text, delta->text_bytes);
}

onebit_request ask(const onebit_message &message)
{
    onebit_request request;
    onebit_request_init(&request);
    request.messages = &message;
    request.n_messages = 1;
    request.max_tokens = 8;
    request.has = ONEBIT_HAS_TEMPERATURE | ONEBIT_HAS_SEED;
    request.request_class = ONEBIT_CLASS_LOW;
    return request;
}

struct Work
{
    std::vector<onebit_message> messages;
    std::vector<onebit_request> requests;
    std::vector<std::string> answers;
};

int next_item(uint64_t index, const onebit_request **ret_request, void **, void *user)
{
    Work *work = static_cast<Work *>(user);
    if (index == work->requests.size()) {
        return 0;
    }
    *ret_request = &work->requests[index];
    return 1;
}

int take_result(const onebit_batch_result *result, void *user)
{
    Work *work = static_cast<Work *>(user);
    work->answers[result->index].assign(result->text, result->text_bytes);
    return result->done ? 0 : result->failure->code;
}

int run(onebit_conn *conn, onebit_canceller *canceller)
{
    const onebit_message message = {"user", "turn on the kitchen lights"};
    std::string text;
    onebit_handler handler;
    onebit_handler_init(&handler);
    handler.delta = on_delta;
    onebit_request request = ask(message);
    int r = onebit_run(conn, &request, &handler, &text);
    if (r != ONEBIT_OK) {
        return r;
    }

    Work work;
    work.messages.assign(3, message);
    for (const onebit_message &m : work.messages) {
        work.requests.push_back(ask(m));
    }
    work.answers.resize(3);
    struct onebit_batch batch; // a function has the name, too
    onebit_batch_init(&batch);
    batch.next = next_item;
    batch.result = take_result;
    batch.user = &work;
    onebit_batch_totals totals;
    onebit_batch_totals_init(&totals);
    r = onebit_batch(&conn, 1, &batch, &totals);
    if (r != ONEBIT_OK || totals.done != 3) {
        return r != ONEBIT_OK ? r : ONEBIT_ERR_INTERNAL;
    }
    for (const std::string &answer : work.answers) {
        if (answer != text) {
            return ONEBIT_ERR_INTERNAL; // the same question, seed and temperature
        }
    }
    onebit_canceller_trip(canceller);
    if (onebit_run(conn, &request, nullptr, nullptr) != ONEBIT_ERR_CANCELLED) {
        return ONEBIT_ERR_INTERNAL;
    }
    std::printf("%s\n", text.c_str());
    return 0;
}

} // namespace

int main()
{
    onebit_canceller *canceller = nullptr;
    onebit_conn *conn = nullptr;
    onebit_options options;
    onebit_retry retry;
    onebit_retry_init(&retry);
    retry.retries = 1;
    onebit_options_init(&options);
    options.retry = &retry;
    int r = onebit_canceller_new(&canceller);
    if (r == 0) {
        options.canceller = canceller;
        r = onebit_connect_with(&conn, &options);
    }
    if (r == 0) {
        r = run(conn, canceller);
    }
    onebit_disconnect(conn);
    onebit_canceller_free(canceller);
    return r == 0 ? 0 : 1;
}
