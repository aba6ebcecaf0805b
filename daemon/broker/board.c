/* board: the loop's part of heat and energy. */
#include "daemon/broker/board.h"

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "base/clock.h"
#include "daemon/broker/board_files.h"
#include "daemon/broker/broker.h"
#include "daemon/broker/log.h"

#define BUSY_MS 1000u
#define IDLE_MS 5000u

struct board {
    struct broker *broker; /* borrowed */
    struct board_files files;
    struct heat_look look;
    struct heat heat;
    struct energy energy;
    uv_timer_t timer;
    bool looked, closing;
};

static void hold_back(struct broker *b, const struct heat *h)
{
    const struct throttle_wish wish = {.lowest = h->level > HEAT_COOL ? CLASS_NORMAL : CLASS_LOW,
                                       .threads = h->threads};

    throttle_set(b, THROTTLE_HEAT, h->level > HEAT_COOL ? &wish : NULL);
}

static void say(const struct board *s)
{
    char temp[32] = "temperature not known", flags[32] = "", threads[40] = "";

    if (s->look.has_temp) {
        (void)snprintf(temp, sizeof(temp), "%.1f degrees", (double)s->look.temp_mc / 1e3);
    }
    if (s->look.has_flags) {
        (void)snprintf(flags, sizeof(flags), ", firmware 0x%x", s->look.flags);
    }
    if (s->heat.threads > 0) {
        (void)snprintf(threads, sizeof(threads), ", steps take %u threads", s->heat.threads);
    }
    log_line(s->heat.level > HEAT_COOL ? LOG_WARNING : LOG_NOTICE, "heat: %s (%s%s)%s%s",
             heat_level_name(s->heat.level), temp, flags,
             s->heat.level > HEAT_COOL ? ": requests of class low wait" : "", threads);
}

static void look(struct board *s)
{
    struct broker *b = s->broker;
    const bool working = b->queue.n_running > 0;
    const uint64_t now = clock_now_ns();
    const struct heat_rules rules = {.warm_c = b->config.heat_warm_c,
                                     .hot_ms = b->config.heat_hot_s * 1000,
                                     .cool_ms = b->config.heat_cool_s * 1000,
                                     .threads = b->engine.n_threads};
    struct board_power power;

    board_heat(&s->look, &s->files);
    if (heat_step(&s->heat, &s->look, &rules, now)) {
        hold_back(b, &s->heat);
        say(s);
    }
    board_power(&power, &s->files);
    energy_step(&s->energy, &s->files, &power, working, b->n_tokens, now);
    s->looked = true;
}

static void on_timer(uv_timer_t *timer)
{
    struct board *s = timer->data;
    const struct broker *b = s->broker;

    look(s);
    const bool busy = b->queue.n_running + b->queue.n_waiting > 0 || s->heat.level > HEAT_COOL;
    uv_update_time(timer->loop);
    (void)uv_timer_start(timer, on_timer, busy ? BUSY_MS : IDLE_MS, 0);
}

void board_start(struct broker *b)
{
    struct board *s = calloc(1, sizeof(*s));

    if (!s) {
        log_line(LOG_ERR, "no memory for the board's sensors");
        return;
    }
    board_files_open(&s->files, b->sysroot);
    if (s->files.n_zones == 0 && !s->files.throttled && s->files.n_meters == 0) {
        free(s); /* nothing to look at */
        return;
    }
    s->broker = b;
    b->board = s;
    (void)uv_timer_init(b->loop, &s->timer);
    s->timer.data = s;
    (void)uv_timer_start(&s->timer, on_timer, BUSY_MS, 0);
    uv_unref((uv_handle_t *)&s->timer);
}

void board_stop(struct broker *b)
{
    struct board *s = b->board;

    if (s && !s->closing) {
        s->closing = true;
        uv_close((uv_handle_t *)&s->timer, NULL);
    }
}

void board_free(struct broker *b)
{
    if (b->board) {
        board_files_close(&b->board->files);
        free(b->board);
        b->board = NULL;
    }
}

void board_take(const struct broker *b, struct board_now *ret)
{
    const struct board *s = b->board;

    *ret = (struct board_now){0};
    if (s && s->looked) {
        ret->known = true;
        ret->look = s->look;
        ret->heat = s->heat;
        ret->has_power = energy_known(&s->energy);
        ret->watts = s->energy.watts;
        ret->joules = s->energy.joules;
        ret->joules_per_token = energy_per_token(&s->energy);
    }
}

bool board_warm(const struct broker *b)
{
    return b->board && b->board->heat.level > HEAT_COOL;
}
