// Goal: a C++ program can use the header as it is. Method: it is compiled with every warning an error.
#include <onebit.h>

#include <string>

static void on_delta(onebit_conn *, uint32_t, const onebit_delta *delta, void *user)
{
    static_cast<std::string *>(user)->append(delta->text, delta->text_bytes);
}

int answer(std::string &text, const char *prompt);

int answer(std::string &text, const char *prompt)
{
    onebit_conn *conn = nullptr;
    int r = onebit_connect(&conn, nullptr);
    if (r != ONEBIT_OK) {
        return r;
    }
    const onebit_message message = {"user", prompt};
    onebit_request request;
    onebit_request_init(&request);
    request.messages = &message;
    request.n_messages = 1;
    request.has = ONEBIT_HAS_TEMPERATURE | ONEBIT_HAS_SEED;
    request.request_class = ONEBIT_CLASS_LOW;
    onebit_handler handler;
    onebit_handler_init(&handler);
    handler.delta = on_delta;
    r = onebit_run(conn, &request, &handler, &text);
    onebit_disconnect(conn);
    return r;
}
