/* doctor: what is off on this machine, and the words that mend it.
 *
 * Every check ends in a finding, also when it could not look: silence would read as health. Nothing
 * is changed, nothing is waited for longer than some seconds, and everything read from the kernel
 * is bounded. Tests set ONEBIT_DOCTOR_ROOT to a folder that holds a /proc, /sys, /boot and /etc of
 * their own; it is for them alone. */
#include "client/cli/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_FOUND_BAD 1

static const char *const verdicts[] = {
    [DOCTOR_OK] = "ok", [DOCTOR_WARN] = "warn", [DOCTOR_BAD] = "bad"};

void doctor_find(struct doctor *d, const char *check, enum verdict verdict, const char *fix,
                 const char *fmt, ...)
{
    char says[1024];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(says, sizeof(says), fmt, args);
    va_end(args);
    char *safe = escape_line(says); /* a path need not be UTF-8, and JSON has to be */
    char *safe_fix = fix ? escape_line(fix) : NULL;
    d->n_warn += verdict == DOCTOR_WARN;
    d->n_bad += verdict == DOCTOR_BAD;
    if (!safe || (fix && !safe_fix) ||
        json_array_append_new(d->findings,
                              json_pack("{s:s, s:s, s:s, s:s*}", "check", check, "verdict",
                                        verdicts[verdict], "says", safe, "fix", safe_fix)) != 0) {
        d->failed = true;
    }
    free(safe);
    free(safe_fix);
}

static void print_findings(const struct doctor *d)
{
    size_t i;
    json_t *f;

    json_array_foreach(d->findings, i, f)
    {
        const json_t *fix = json_object_get(f, "fix");
        (void)printf("%-4s  %-13s %s\n", json_string_value(json_object_get(f, "verdict")),
                     json_string_value(json_object_get(f, "check")),
                     json_string_value(json_object_get(f, "says")));
        if (fix) {
            (void)printf("%21s%s\n", "fix: ", json_string_value(fix));
        }
    }
    (void)printf("\n%zu checks: %u bad, %u to look at\n", json_array_size(d->findings), d->n_bad,
                 d->n_warn);
}

static int report(struct doctor *d)
{
    int r = 0;

    if (d->failed) {
        complain("out of memory");
        return EXIT_SOFTWARE;
    }
    if (d->args->json) {
        r = print_json(json_pack("{s:O, s:i, s:i}", "findings", d->findings, "bad", (int)d->n_bad,
                                 "warn", (int)d->n_warn),
                       -1);
    } else {
        print_findings(d);
    }
    return r != 0 ? r : d->n_bad > 0 ? EXIT_FOUND_BAD : 0;
}

int verb_doctor(struct args *args)
{
    const char *root = getenv("ONEBIT_DOCTOR_ROOT");
    struct doctor d = {.args = args, .probe = {root ? root : ""}, .findings = json_array()};

    doctor_daemon(&d);
    doctor_machine(&d);
    const int r = report(&d);
    json_decref(d.findings);
    json_decref(d.status);
    json_decref(d.list);
    free(d.models);
    free(d.cache);
    free(d.default_model);
    free(d.sessions);
    return r;
}
