/* Salts in memory, and their file: tables come back as they were, and whatever is not sound is
 * refused as a whole. */
#include "tests/support/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/broker/salt_store.h"
#include "daemon/broker/salts.h"

static void bytes_of(struct buf *out, const struct salts *t)
{
    buf_init(out, SALTS_FILE_MAX);
    assert_int_equal(salts_write(out, t), 0);
    assert_int_equal(salts_seal(out), 0);
}

static void a_table_comes_back_from_its_bytes(void **state)
{
    uint8_t ann[SEAM_SALT], web[SEAM_SALT], again[SEAM_SALT];
    struct diag diag = {0};
    struct salts t, back;
    struct buf file;
    (void)state;

    salts_init(&t);
    assert_true(salts_get(&t, 1000, "", ann));
    assert_true(salts_get(&t, 1000, "web.service", web));
    assert_memory_not_equal(ann, web, SEAM_SALT);
    assert_true(salts_get(&t, 1000, "", again));
    assert_memory_equal(again, ann, SEAM_SALT);
    assert_int_equal(t.n_drawn, 2);
    bytes_of(&file, &t);

    salts_init(&back);
    assert_int_equal(salts_read(&back, file.data, file.n, &diag), SALTS_OK);
    assert_int_equal(back.n, 2);
    assert_true(salts_get(&back, 1000, "", again));
    assert_memory_equal(again, ann, SEAM_SALT);
    assert_true(salts_get(&back, 1000, "web.service", again));
    assert_memory_equal(again, web, SEAM_SALT);
    assert_int_equal(back.n_drawn, 0); /* nothing that the file lacks */
    assert_true(salts_get(&back, 1001, "", again));
    assert_memory_not_equal(again, ann, SEAM_SALT);
    assert_int_equal(back.n_drawn, 1);
    buf_deinit(&file);
    salts_deinit(&back);
    salts_deinit(&t);
}

/* Goal: no wrong bit gives one user another's salt. Method: each bit of a file is turned. */
static void a_single_wrong_bit_refuses_all(void **state)
{
    uint8_t salt[SEAM_SALT];
    struct salts t, back;
    struct buf file;
    (void)state;

    salts_init(&t);
    salts_init(&back);
    assert_true(salts_get(&t, 0, "", salt));
    assert_true(salts_get(&t, 7, "web.service", salt));
    bytes_of(&file, &t);
    for (size_t i = 0; i < file.n * 8; i++) {
        struct diag diag = {0};
        file.data[i / 8] ^= (uint8_t)(1u << (i % 8));
        assert_int_equal(salts_read(&back, file.data, file.n, &diag), SALTS_BAD);
        assert_true(diag.set);
        assert_int_equal(back.n, 0);
        file.data[i / 8] ^= (uint8_t)(1u << (i % 8));
    }
    buf_deinit(&file);
    salts_deinit(&t);
}

/* Goal: a full table of the longest names is what SALTS_FILE_MAX has room for, to the byte. */
static void a_full_table_fits_its_file(void **state)
{
    uint8_t salt[SEAM_SALT];
    char unit[UNIT_MAX + 1];
    struct diag diag = {0};
    struct salts t, back;
    struct buf file;
    (void)state;

    salts_init(&t);
    memset(unit, 'u', UNIT_MAX);
    unit[UNIT_MAX] = '\0';
    for (uint32_t i = 0; i <= SALTS_MAX; i++) {
        assert_true(salts_get(&t, i, unit, salt));
    }
    assert_int_equal(t.n, SALTS_MAX);
    bytes_of(&file, &t);
    assert_int_equal(file.n, SALTS_FILE_MAX);
    salts_init(&back);
    assert_int_equal(salts_read(&back, file.data, file.n, &diag), SALTS_OK);
    assert_int_equal(back.n, SALTS_MAX);
    buf_deinit(&file);
    salts_deinit(&back);
    salts_deinit(&t);
}

/* ---- the file ---- */

struct place {
    char dir[64], file[128];
    uv_loop_t loop;
    struct salts salts;
    struct salt_store store;
};

static void place_open(struct place *p)
{
    salts_init(&p->salts);
    assert_int_equal(uv_loop_init(&p->loop), 0);
    salt_store_init(&p->store, &p->loop, &p->salts, p->dir);
}

static void place_make(struct place *p)
{
    (void)snprintf(p->dir, sizeof(p->dir), "/tmp/onebit-salts-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    (void)snprintf(p->file, sizeof(p->file), "%s/%s", p->dir, SALT_FILE);
    place_open(p);
}

/* The daemon ends. */
static void place_stop(struct place *p)
{
    salt_store_stop(&p->store);
    assert_int_equal(uv_run(&p->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&p->loop), 0);
    salts_deinit(&p->salts);
}

static size_t n_files(const struct place *p)
{
    DIR *d = opendir(p->dir);
    size_t n = 0;

    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d));) {
        n += e->d_name[0] != '.';
    }
    assert_int_equal(closedir(d), 0);
    return n;
}

/* KV goes to disk, somebody's salt is drawn, and the daemon ends. */
static void one_salt_is_written(struct place *p, uint8_t ret[SEAM_SALT])
{
    assert_true(salts_get(&p->salts, 1000, "", ret));
    salt_store_keep(&p->store);
    place_stop(p);
}

/* The salts' file is there and nothing else; then both go. */
static void place_remove(const struct place *p)
{
    assert_int_equal(n_files(p), 1);
    assert_int_equal(unlink(p->file), 0);
    assert_int_equal(rmdir(p->dir), 0);
}

static void nothing_is_written_until_kv_goes_to_disk(void **state)
{
    uint8_t salt[SEAM_SALT], again[SEAM_SALT];
    struct place p;
    struct stat st;
    (void)state;

    place_make(&p);
    assert_true(salts_get(&p.salts, 1000, "", salt));
    salt_store_look(&p.store);
    place_stop(&p);
    assert_int_equal(n_files(&p), 0);

    place_open(&p);
    one_salt_is_written(&p, salt);
    assert_int_equal(stat(p.file, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);

    place_open(&p);
    salt_store_read(&p.store);
    assert_true(salts_get(&p.salts, 1000, "", again));
    assert_memory_equal(again, salt, sizeof(salt));
    place_stop(&p);
    place_remove(&p);
}

static void a_file_that_others_can_read_counts_for_nothing(void **state)
{
    uint8_t salt[SEAM_SALT], again[SEAM_SALT];
    struct place p;
    struct stat st;
    (void)state;

    place_make(&p);
    one_salt_is_written(&p, salt);
    assert_int_equal(chmod(p.file, 0640), 0);

    place_open(&p);
    salt_store_read(&p.store);
    assert_int_equal(p.salts.n, 0);
    assert_true(salts_get(&p.salts, 1000, "", again));
    assert_memory_not_equal(again, salt, sizeof(salt));
    salt_store_keep(&p.store); /* and it is made anew, for us alone */
    place_stop(&p);
    assert_int_equal(stat(p.file, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    place_remove(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_comes_back_from_its_bytes),
        cmocka_unit_test(a_single_wrong_bit_refuses_all),
        cmocka_unit_test(a_full_table_fits_its_file),
        cmocka_unit_test(nothing_is_written_until_kv_goes_to_disk),
        cmocka_unit_test(a_file_that_others_can_read_counts_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
