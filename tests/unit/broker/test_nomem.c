#include "tests/support/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/broker/answer_cache.h"
#include "daemon/broker/config_peer.h"
#include "daemon/broker/http.h"
#include "daemon/broker/identity.h"
#include "daemon/broker/metrics_text.h"
#include "daemon/broker/peer.h"
#include "daemon/broker/salts.h"
#include "daemon/broker/session.h"
#include "daemon/broker/session_file.h"
#include "tests/support/nomem.h"

static const struct moment now = {.now_ns = 1, .unix_s = 1};
static const struct grant plain = {.known = true, .weight = 1};

/* One pass over everything that allocates; 0 or the first error. */
static int everything(int fd)
{
    struct policy p = {0};
    struct policy_rule *rule = NULL;
    struct identities t;
    struct peer peer = {0};
    char why[200];

    identities_init(&t);
    int r = policy_rule(&p, "uid.7", &rule);
    if (r == 0) {
        r = config_peer_key(rule, "models", "a, b", why, sizeof(why));
    }
    if (r == 0) {
        r = policy_rule(&p, "unit.web.service", &rule);
    }
    if (r == 0) {
        r = peer_read(&peer, fd);
    }
    if (r == 0) {
        r = identity_get(&t, peer.uid, peer.unit, &plain, &now) ? 0 : -ENOMEM;
    }
    if (r == 0) {
        r = identity_get(&t, peer.uid, "web.service", &plain, &now) ? 0 : -ENOMEM;
    }
    peer_deinit(&peer);
    identities_deinit(&t);
    policy_deinit(&p);
    return r;
}

/* Goal: whichever allocation fails, the answer is -ENOMEM and nothing is lost (the sanitizers see a
 * leak). Method: none succeeds, then one, then two, until all do. The one that only gives room back
 * may fail unnoticed. */
static void every_failed_allocation_is_reported(void **state)
{
    size_t i = 0, n_reported = 0;
    int fds[2];
    (void)state;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    for (bool failed = true; failed; i++) {
        nomem_after(i);
        const int r = everything(fds[0]);
        failed = nomem_off();
        assert_true(r == 0 || (failed && r == -ENOMEM));
        n_reported += r != 0;
    }
    assert_true(n_reported >= 8);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* Goal: a file of salts is taken whole or not at all. Method: as above. */
static void salts_are_read_whole_or_not(void **state)
{
    uint8_t salt[SEAM_SALT];
    struct salts t, back;
    struct buf file;
    size_t i = 0;
    (void)state;

    salts_init(&t);
    salts_init(&back);
    assert_true(salts_get(&t, 1, "", salt));
    assert_true(salts_get(&t, 2, "web.service", salt));
    for (bool failed = true; failed; i++) {
        struct diag diag = {0};
        buf_init(&file, SALTS_FILE_MAX);
        nomem_after(i);
        int r = salts_write(&file, &t);
        r = r == 0 ? salts_seal(&file) : r;
        r = r == 0 ? salts_read(&back, file.data, file.n, &diag) : r;
        failed = nomem_off();
        assert_int_equal(r, failed ? -ENOMEM : 0);
        assert_int_equal(back.n, failed ? 0 : 2);
        buf_deinit(&file);
    }
    assert_true(i >= 5); /* the bytes, two salts, and the look at all of them failed each */
    salts_deinit(&back);
    salts_deinit(&t);
}

/* Goal: without memory for a model's figures nothing is counted, and a text or a page is written
 * whole or refused. Method: as above. */
static void figures_do_without_memory(void **state)
{
    const struct metrics_now state_now = {.version = "1", .cpu = "scalar"};
    size_t i = 0, n_reported = 0;
    (void)state;

    for (bool failed = true; failed; i++) {
        struct metrics m;
        struct buf text, page;
        metrics_init(&m, 0);
        buf_init(&text, METRICS_TEXT_MAX);
        buf_init(&page, METRICS_TEXT_MAX + 1024);
        nomem_after(i);
        metrics_request(&m, metrics_slot(&m, "home"), CLASS_HIGH, ERR_NONE);
        metrics_tokens(&m, metrics_slot(&m, NULL), CLASS_LOW, 3);
        metrics_step(&m, METRICS_OTHER, 1, 1);
        int r = metrics_text(&text, &m, &state_now);
        if (r == 0) {
            r = http_put(&page, HTTP_GET, METRICS_CONTENT_TYPE,
                         (struct strview){.data = (const char *)text.data, .n = text.n});
        }
        failed = nomem_off();
        assert_true(r == 0 || (failed && r == -ENOMEM));
        n_reported += r != 0;
        buf_deinit(&page);
        buf_deinit(&text);
        metrics_deinit(&m);
    }
    assert_true(n_reported >= 8);
}

/* The messages of a session, to see whether a turn that failed has changed them. */
static bool has(const struct session *s, size_t n_messages, size_t n_ids)
{
    return s->n_messages == n_messages && s->n_ids == n_ids &&
           (n_messages == 0 || strview_is(s->messages[0].content, "hi"));
}

/* One pass over what a session allocates: two turns, a file, the file again; 0 or the first
 * error. */
static int a_session(void)
{
    static const int32_t ids[] = {1, 2, 3};
    const struct msg_chat_message hi[] = {{strview_of("user"), strview_of("hi")},
                                          {strview_of("user"), strview_of("ho")}};
    struct session_outcome o = {.messages = hi,
                                .n_messages = 1,
                                .answer = strview_of("yes"),
                                .prompt_ids = ids,
                                .n_prompt_ids = 2,
                                .answer_ids = ids,
                                .n_answer_ids = 1,
                                .whole = true,
                                .model = "m",
                                .quantization = "binary",
                                .formats = "Q1_0"};
    struct session *s = session_new(1, strview_of("s"), 5), *again = NULL;
    struct buf file;
    int r = s ? session_commit(s, &o, 6) : -ENOMEM;

    buf_init(&file, SESSION_FILE_MAX);
    assert_true(!s || has(s, r == 0 ? 2 : 0, r == 0 ? 3 : 0));
    if (r == 0) {
        o.n_messages = o.n_prompt_ids = 2;
        o.n_answer_ids = 2;
        r = session_commit(s, &o, 7);
        assert_true(has(s, r == 0 ? 3 : 2, r == 0 ? 4 : 3));
    }
    if (r == 0) {
        r = session_file_write(&file, s);
    }
    if (r == 0) {
        r = session_file_seal(&file);
    }
    if (r == 0) {
        r = session_file_read(&again, file.data, file.n, NULL);
    }
    buf_deinit(&file);
    session_free(s);
    session_free(again);
    return r;
}

/* Goal: a session that memory fails is as it was before, and nothing is lost. */
static void a_turn_without_memory_changes_nothing(void **state)
{
    size_t i = 0;
    (void)state;

    for (bool failed = true; failed; i++) {
        nomem_after(i);
        const int r = a_session();
        failed = nomem_off();
        assert_int_equal(r, failed ? -ENOMEM : 0);
    }
    assert_true(i > 10);
}

/* Goal: a cache without memory keeps what it has and forgets the rest. */
static void an_answer_without_memory_is_not_kept(void **state)
{
    static struct answer_cache c;
    const struct kept_answer a = {.text = strview_of("yes"), .finish_reason = strview_of("stop")};
    const struct answer_key one = {strview_of("1"), strview_of("m"), 0},
                            two = {strview_of("2"), strview_of("m"), 0};
    struct kept_answer got;
    (void)state;

    answer_cache_init(&c, 4096);
    answer_cache_put(&c, &one, &a);
    nomem_after(0);
    answer_cache_put(&c, &two, &a);
    assert_true(nomem_off());
    assert_true(answer_cache_find(&c, &one, &got));
    assert_false(answer_cache_find(&c, &two, &got));
    answer_cache_clear(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_do_without_memory),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(salts_are_read_whole_or_not),
        cmocka_unit_test(a_turn_without_memory_changes_nothing),
        cmocka_unit_test(an_answer_without_memory_is_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
