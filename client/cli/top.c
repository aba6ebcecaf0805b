/* top: a live view of the daemon. Two questions (status, ps) each delay; while an answer is on its
 * way, keys and signals are heard. The terminal is given back whole whatever ends the view: signals
 * are read, not suffered. */
#include "client/cli/cli.h"

#include <curses.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/whole_file.h"
#include "client/cli/top_frame.h"

#define DELAY_DEFAULT_S 1.0
#define ANSWER_NS (10 * NS_PER_S) /* without an answer for so long the connection is made anew */
#define TEXT_WIDTH 120u           /* of --once, where there is no terminal to fit */

enum { STATUS, PS, ANSWERS };

struct top;

struct answer_slot {
    struct top *top; /* borrowed */
    json_t *map;     /* owned; NULL: not there */
    bool waits;
};

/* Two answers that belong together. */
struct answers {
    json_t *map[ANSWERS]; /* owned; NULL: none */
    uint64_t at_ns;
};

struct top {
    struct args *args; /* borrowed */
    struct talk talk;
    struct answer_slot slots[ANSWERS]; /* what is being asked */
    struct answers now, before;
    uint64_t asked_ns;
    char trouble[256]; /* why there is no newer answer; "": there is */
    enum top_sort sort;
    bool quit, fresh; /* fresh: something to draw */
};

/* ---- asking ---- */

static void hang_up(struct top *t, const char *why)
{
    talk_hang_up(&t->talk);
    (void)snprintf(t->trouble, sizeof(t->trouble), "%s; trying again", why);
    for (size_t i = 0; i < ANSWERS; i++) {
        json_decref(t->slots[i].map);
        t->slots[i] = (struct answer_slot){.top = t};
    }
    t->fresh = true;
}

static void on_done(struct onebit_conn *conn, uint32_t id, const struct onebit_done *done,
                    void *user)
{
    struct answer_slot *slot = user;

    slot->waits = false;
    json_decref(slot->map);
    slot->map = done->result ? json_loadb(done->result, done->result_bytes, 0, NULL) : NULL;
}

static void on_error(struct onebit_conn *conn, uint32_t id, const struct onebit_failure *failure,
                     void *user)
{
    struct answer_slot *slot = user;

    slot->waits = false;
    (void)snprintf(slot->top->trouble, sizeof(slot->top->trouble), "%s: %s", failure->name,
                   failure->message);
    slot->top->fresh = true;
}

static const char *why(int r)
{
    return r < 0 ? strerror(-r) : onebit_error_info(r)->meaning;
}

/* Ask both questions, on a new connection where there is none. */
static void ask(struct top *t)
{
    static const enum onebit_verb questions[ANSWERS] = {[STATUS] = ONEBIT_STATUS, [PS] = ONEBIT_PS};
    struct onebit_handler handler;
    char path[ONEBIT_SOCKET_PATH_MAX] = "", text[256];
    int r = t->talk.conn ? 0 : onebit_connect(&t->talk.conn, t->args->socket);

    t->asked_ns = clock_now_ns();
    if (r != 0) {
        (void)onebit_socket_path(t->args->socket, path);
        (void)snprintf(text, sizeof(text), "no onebitd answers at %s: %s", path, why(r));
        hang_up(t, text);
        return;
    }
    talk_never_again(t->talk.conn);
    onebit_handler_init(&handler);
    handler.done = on_done;
    handler.error = on_error;
    for (size_t i = 0; i < ANSWERS && r == 0; i++) {
        t->slots[i].top = t;
        r = onebit_ask(t->talk.conn, questions[i], NULL, &handler, &t->slots[i], NULL);
        t->slots[i].waits = r == 0;
    }
    if (r != 0) {
        hang_up(t, why(r));
    }
}

static bool asking(const struct top *t)
{
    return t->slots[STATUS].waits || t->slots[PS].waits;
}

/* Both answers are there: they are what is shown from here on. */
static void take(struct top *t)
{
    if (asking(t) || !t->slots[STATUS].map || !t->slots[PS].map) {
        return;
    }
    for (size_t i = 0; i < ANSWERS; i++) {
        json_decref(t->before.map[i]);
    }
    t->before = t->now;
    for (size_t i = 0; i < ANSWERS; i++) {
        t->now.map[i] = t->slots[i].map;
        t->slots[i].map = NULL;
    }
    t->now.at_ns = clock_now_ns();
    t->trouble[0] = '\0';
    t->fresh = true;
}

static void hear_daemon(struct top *t)
{
    const int r = onebit_dispatch(t->talk.conn, 0);

    if (r != 0 && r != -EINTR) {
        hang_up(t, why(r));
        return;
    }
    take(t);
}

/* ---- the machine's pressure, from the kernel ---- */

/* "some avg10=1.23 ..." of one file; false: the kernel does not tell. */
static bool pressure_of(const char *what, double *ret)
{
    char path[64], text[256];

    (void)snprintf(path, sizeof(path), "/proc/pressure/%s", what);
    return whole_file_head(text, sizeof(text), AT_FDCWD, path, 0) > 0 &&
           sscanf(text, "some avg10=%lf", ret) == 1;
}

static void pressure_line(char *ret, size_t n)
{
    double cpu = 0, memory = 0, io = 0;

    if (pressure_of("cpu", &cpu) && pressure_of("memory", &memory) && pressure_of("io", &io)) {
        (void)snprintf(
            ret, n,
            "pressure: somebody waited for the CPU %.1f %%, memory %.1f %%, disk %.1f %% "
            "of 10 s",
            cpu, memory, io);
    } else {
        (void)snprintf(ret, n, "pressure: this kernel does not tell; onebit doctor says why");
    }
}

/* ---- drawing ---- */

static int view(struct top *t, struct frame *f, unsigned width, unsigned height)
{
    char pressure[128];
    const bool both = t->before.at_ns != 0;
    const struct top_view v = {
        .status = t->now.map[STATUS],
        .ps = t->now.map[PS],
        .status0 = t->before.map[STATUS],
        .ps0 = t->before.map[PS],
        .seconds = both ? (double)(t->now.at_ns - t->before.at_ns) / 1e9 : 0,
        .pressure = pressure,
        .trouble = t->trouble[0] ? t->trouble : NULL,
        .sort = t->sort,
        .width = width < FRAME_WIDTH_MAX ? width : FRAME_WIDTH_MAX,
        .height = height,
    };

    pressure_line(pressure, sizeof(pressure));
    return frame_fill(f, &v);
}

static int draw(struct top *t)
{
    struct frame *f = calloc(1, sizeof(*f));
    const int width = getmaxx(stdscr), height = getmaxy(stdscr);
    char keys[96];
    int r = f ? view(t, f, width > 0 ? (unsigned)width : 1, height > 0 ? (unsigned)height : 1)
              : -ENOMEM;

    (void)erase();
    for (size_t i = 0; r == 0 && i < f->n && (int)i + 1 < height; i++) {
        (void)attrset(f->lines[i].strong ? A_BOLD : A_NORMAL);
        (void)mvaddstr((int)i, 0, f->lines[i].text);
    }
    (void)snprintf(keys, sizeof(keys), "q quit   s sort (now by %s)", top_sort_name(t->sort));
    char *line = frame_fit(keys, width > 1 ? (unsigned)width - 1 : 1, false);
    if (line) { /* one column less: a full last line would scroll */
        (void)attrset(A_REVERSE);
        (void)mvaddstr(height - 1, 0, line);
        (void)attrset(A_NORMAL);
    }
    free(line);
    (void)refresh();
    if (f) {
        frame_deinit(f);
    }
    free(f);
    t->fresh = false;
    return r;
}

static void hear_keys(struct top *t)
{
    int key;

    while ((key = getch()) != ERR) {
        if (key == 'q' || key == 'Q') {
            t->quit = true;
        } else if (key == 's' || key == 'S') {
            t->sort = (enum top_sort)(((unsigned)t->sort + 1) % TOP_SORTS);
        }
        t->fresh = true; /* KEY_RESIZE, and whatever may have spoilt the screen */
    }
}

/* ---- the loop ---- */

static uint64_t delay_ns(const struct top *t)
{
    const double s = t->args->delay_s > 0 ? (double)t->args->delay_s : DELAY_DEFAULT_S;
    return (uint64_t)(s * 1e9);
}

/* Wait for the daemon, a signal, a key where keys is true, or this time. */
static int turn(struct top *t, uint64_t until_ns, bool keys)
{
    const uint64_t now = clock_now_ns();
    struct pollfd fds[3] = {
        {.fd = t->talk.signal_fd, .events = POLLIN},
        {.fd = t->talk.conn ? onebit_get_fd(t->talk.conn) : -1, .events = POLLIN},
        {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN},
    };

    if (t->talk.conn) {
        fds[1].events = onebit_wants(t->talk.conn);
    }
    const int wait = now >= until_ns ? 0 : (int)((until_ns - now) / NS_PER_MS) + 1;
    if (poll(fds, 3, wait) < 0 && errno != EINTR) {
        return -errno;
    }
    if (fds[0].revents && talk_signal(&t->talk)) {
        t->quit = true;
    }
    if (fds[2].revents & (POLLHUP | POLLERR | POLLNVAL)) {
        t->quit = true; /* the terminal is gone */
    } else if (keys) {  /* a signal may have left a key of its own: a new size */
        hear_keys(t);
    }
    if (fds[1].revents && t->talk.conn) {
        hear_daemon(t);
    }
    return 0;
}

static int watch(struct top *t)
{
    int r = 0;

    ask(t);
    while (r == 0 && !t->quit) {
        const uint64_t now = clock_now_ns();
        const uint64_t next = t->asked_ns + (asking(t) ? ANSWER_NS : delay_ns(t));
        if (now >= next && asking(t)) {
            hang_up(t, "onebitd does not answer");
        }
        if (now >= next) {
            ask(t);
        }
        if (t->fresh) {
            r = draw(t);
        }
        r = r == 0 ? turn(t, t->asked_ns + (asking(t) ? ANSWER_NS : delay_ns(t)), true) : r;
    }
    return r;
}

static int screen(struct top *t)
{
    /* Ctrl-\ has to give the terminal back as well. */
    (void)sigaddset(&t->talk.blocked, SIGQUIT);
    (void)sigprocmask(SIG_BLOCK, &t->talk.blocked, NULL);
    (void)signalfd(t->talk.signal_fd, &t->talk.blocked, 0);
    SCREEN *s = newterm(NULL, stdout, stdin);
    if (!s) {
        complain("this terminal's type is not known here (TERM); --once prints one view as text");
        return EXIT_USAGE;
    }
    (void)cbreak();
    (void)noecho();
    (void)nodelay(stdscr, TRUE);
    (void)keypad(stdscr, TRUE);
    (void)curs_set(0);
    const int r = watch(t);
    (void)endwin();
    delscreen(s);
    if (r != 0) {
        complain("the view ended: %s", strerror(-r));
        return r == -ENOMEM ? EXIT_SOFTWARE : EXIT_SYSTEM;
    }
    return t->talk.signalled ? EXIT_SIGNAL + t->talk.signalled : 0;
}

/* ---- one view as text ---- */

/* Until both answers are there, or something is wrong: 0 or an exit code, said. */
static int one_answer(struct top *t)
{
    ask(t);
    while (asking(t) && !t->quit) {
        if (clock_now_ns() >= t->asked_ns + ANSWER_NS) {
            hang_up(t, "onebitd does not answer");
        }
        if (turn(t, t->asked_ns + ANSWER_NS, false) != 0) {
            return EXIT_SYSTEM;
        }
    }
    if (t->quit) {
        return EXIT_SIGNAL + t->talk.signalled;
    }
    if (t->trouble[0] || !t->now.map[PS]) {
        complain("%s", t->trouble[0] ? t->trouble : "the daemon's answer cannot be read");
        return t->talk.conn ? EXIT_PROTOCOL : EXIT_UNAVAILABLE;
    }
    return 0;
}

static int print_once(struct top *t)
{
    int r = talk_connect(&t->talk, t->args->socket);
    struct frame *f = NULL;

    r = r == 0 ? one_answer(t) : r;
    const uint64_t until = clock_now_ns() + delay_ns(t);
    while (r == 0 && !t->quit && clock_now_ns() < until) { /* rates want two answers */
        r = turn(t, until, false) == 0 ? 0 : EXIT_SYSTEM;
    }
    r = r == 0 ? one_answer(t) : r;
    if (r == 0) {
        f = calloc(1, sizeof(*f));
        r = f && view(t, f, TEXT_WIDTH, 0) == 0 ? 0 : EXIT_SOFTWARE;
    }
    for (size_t i = 0; f && r == 0 && i < f->n; i++) {
        (void)printf("%s\n", f->lines[i].text);
    }
    if (r == EXIT_SOFTWARE) {
        complain("out of memory");
    }
    if (f) {
        frame_deinit(f);
    }
    free(f);
    return r;
}

int verb_top(struct args *args)
{
    struct top t = {.args = args};
    int r = talk_init(&t.talk);

    (void)setlocale(LC_CTYPE, ""); /* for the width of characters */
    if (r == 0) {
        r = args->once || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO) ? print_once(&t)
                                                                          : screen(&t);
    }
    for (size_t i = 0; i < ANSWERS; i++) {
        json_decref(t.now.map[i]);
        json_decref(t.before.map[i]);
        json_decref(t.slots[i].map);
    }
    t.talk.signalled = 0;
    talk_deinit(&t.talk);
    return r;
}
