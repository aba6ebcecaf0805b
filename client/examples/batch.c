/* Each line of standard input is an item; answers are printed with the number of their line, as
 * they come.
 *
 *     cc batch.c $(pkg-config --cflags --libs onebit) -o batch && seq 1000 | ./batch */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <onebit.h>

/* Everything that a request points to lives until its result. */
struct item {
    struct onebit_request request;
    struct onebit_message message;
    char line[1024];
};

static int next_item(uint64_t index, const struct onebit_request **ret_request, void **ret_item,
                     void *user)
{
    struct item *item = calloc(1, sizeof(*item));

    (void)index;
    (void)user;
    if (!item) {
        return -ENOMEM;
    }
    if (!fgets(item->line, sizeof(item->line), stdin)) {
        free(item);
        return 0; /* that was all */
    }
    item->line[strcspn(item->line, "\n")] = '\0';
    item->message = (struct onebit_message){"user", item->line};
    onebit_request_init(&item->request);
    item->request.messages = &item->message;
    item->request.n_messages = 1;
    item->request.max_tokens = 32;
    item->request.request_class = ONEBIT_CLASS_LOW; /* whoever waits goes first */
    *ret_request = &item->request;
    *ret_item = item;
    return 1;
}

static int take_result(const struct onebit_batch_result *result, void *user)
{
    struct item *item = result->item;

    (void)user;
    if (result->done) {
        printf("%llu: %s\n", (unsigned long long)result->index, result->text);
    } else {
        fprintf(stderr, "%llu: %s: %s: %s\n", (unsigned long long)result->index, item->line,
                result->failure->name, result->failure->message);
    }
    free(item);
    return ferror(stdout) ? -EIO : 0; /* anything but 0 stops the batch */
}

int main(void)
{
    struct onebit_batch batch;
    struct onebit_batch_totals totals;
    struct onebit_conn *conn;
    int r = onebit_connect(&conn, NULL);

    if (r != 0) {
        fprintf(stderr, "cannot connect: %s\n",
                r < 0 ? strerror(-r) : onebit_error_info(r)->meaning);
        return 1;
    }
    onebit_batch_init(&batch);
    batch.next = next_item;
    batch.result = take_result;
    onebit_batch_totals_init(&totals);
    r = onebit_batch(&conn, 1, &batch, &totals);
    fprintf(stderr, "%llu done, %llu failed, %llu retries, %llu tokens in %.1f s\n",
            (unsigned long long)totals.done, (unsigned long long)totals.failed,
            (unsigned long long)totals.retries, (unsigned long long)totals.answer_tokens,
            (double)totals.elapsed_us * 1e-6);
    onebit_disconnect(conn);
    return r == 0 && totals.failed == 0 ? 0 : 1;
}
