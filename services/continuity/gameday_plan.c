/* gameday_plan.c - when a drill is due, whether it may be played, and what it has shown. */
#include "continuity/gameday_plan.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define DAY_MS    INT64_C(86400000)
#define MINUTE_MS INT64_C(60000)

/* ---- when ---- */

/* 1970-01-01 was a Thursday. */
static const char *const days[] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};

/* Into the week that begins with a Thursday, or into the day: *ret_period says which. False without a set time. */
static bool set_time(const char *at, int64_t *ret_offset_ms, int64_t *ret_period_ms)
{
    unsigned hour = 0, minute = 0;
    int64_t day = -1;
    for (size_t i = 0; i < 7; i++)
        if (strncmp(at, days[i], 3) == 0 && at[3] == ' ')
            day = (int64_t)i;
    if (sscanf(day >= 0 ? at + 4 : at, "%2u:%2u", &hour, &minute) != 2)
        return false;
    *ret_offset_ms = (day > 0 ? day : 0) * DAY_MS + (int64_t)(hour * 60 + minute) * MINUTE_MS;
    *ret_period_ms = day >= 0 ? 7 * DAY_MS : DAY_MS;
    return true;
}

int64_t gameday_next(const struct set_drill *d, int64_t last_ms, int64_t now_ms)
{
    int64_t offset, period, from = now_ms;
    if (!set_time(d->at, &offset, &period))
        return last_ms > 0 && last_ms + d->every_ms > now_ms ? last_ms + d->every_ms : now_ms + d->every_ms;
    /* Half a period of slack: one that began a little late last time does not move to another day. */
    if (last_ms > 0 && last_ms + d->every_ms - period / 2 > from)
        from = last_ms + d->every_ms - period / 2;
    int64_t next = from / period * period + offset;
    return next > from ? next : next + period;
}

/* ---- whether ---- */

enum gameday_verdict gameday_decide(const struct gameday_facts *f)
{
    if (!f->ordered && f->now_ms < f->next_ms)
        return GAMEDAY_WAIT;
    if (f->agent_gone)
        return GAMEDAY_GONE;
    if (!f->program)
        return GAMEDAY_NO_PROGRAM;
    if (f->incident && !f->forced)
        return GAMEDAY_INCIDENT;
    if (!f->ordered && f->at && f->now_ms - f->next_ms > GAMEDAY_LATE_MS)
        return GAMEDAY_MISSED;
    return f->busy ? GAMEDAY_WAIT : GAMEDAY_PLAY;
}

/* ---- what came of it ---- */

/* From what breaks it to what has it back; and which conditions that was, so which objectives it shows. */
static const struct story {
    const char *name, *breaks, *step, *mark;
    unsigned shows; /* bits */
} stories[] = {
#define SHOWS(a) (1u << SET_##a)
    {"llm-outage", "primary_dies", "llms_return", "ack", SHOWS(MAD_LLM_FALLBACK)},
    {"backend-outage", "backend_goes", "backend_returns", "ack",
     SHOWS(MAD_DEGRADED) | SHOWS(RTO_CRITICAL) | SHOWS(RTO_FULL)},
    {"logic-error", "judgement_goes", "unfreeze", "ack", SHOWS(MAD_FULL) | SHOWS(RTO_CRITICAL) | SHOWS(RTO_FULL)},
    {"resource-exhaustion", "memory_goes", "restart", "ack",
     SHOWS(MAD_DEGRADED) | SHOWS(RTO_CRITICAL) | SHOWS(RTO_FULL)},
    {"partition", "link_goes", "link_returns", "confirmed", SHOWS(MAD_FULL) | SHOWS(RTO_CRITICAL) | SHOWS(RTO_FULL)},
    {"agent-loss", "agent_dies", "agent_returns", "ack", SHOWS(MAD_FULL) | SHOWS(RTO_CRITICAL) | SHOWS(RTO_FULL)},
};

static const json_t *by_key(const json_t *list, const char *key)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        const char *is = json_string_value(json_object_get(item, "key"));
        if (is && strcmp(is, key) == 0)
            return item;
    }
    return NULL;
}

static bool number(const json_t *o, const char *key, int64_t *ret)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *ret = json_integer_value(v);
    return true;
}

/* How long it was from what broke it until all was back; -1 = the answer does not say. */
static int64_t took(const json_t *o, const struct story *s)
{
    int64_t from, to, after, total;
    if (json_is_true(json_object_get(o, "live")))
        return number(o, "total_ms", &total) ? total : -1;
    const json_t *steps = json_object_get(o, "steps"), *end = by_key(steps, s->step);
    if (!number(by_key(steps, s->breaks), "at_ms", &from) || !number(end, "at_ms", &to) ||
        !number(by_key(json_object_get(end, "marks"), s->mark), "after_ms", &after) || to < from)
        return -1;
    return to + after - from;
}

static void read_result(const struct story *s, const json_t *o, int64_t validate_ms, struct gameday_result *ret)
{
    const char *name = json_string_value(json_object_get(o, "drill")),
               *why = json_string_value(json_object_get(o, "why"));
    const json_t *ok = json_object_get(o, "ok");
    int64_t ms = took(o, s);
    if (!name || strcmp(name, s->name) != 0 || !json_is_boolean(ok)) {
        snprintf(ret->why, sizeof ret->why, "its answer is not that of the drill %s", s->name);
        return;
    }
    ret->valid = true;
    ret->passed = json_is_true(ok);
    snprintf(ret->why, sizeof ret->why, "%s", why ? why : "");
    if (!ret->passed)
        return;
    if (ms < 0) {
        ret->passed = false;
        snprintf(ret->why, sizeof ret->why, "it has passed, but does not say how long the way back took");
        return;
    }
    if (!json_is_true(json_object_get(o, "live")))
        ms += validate_ms;
    for (size_t i = 0; i < SET_OBJECTIVES; i++)
        if (s->shows & (1u << i)) {
            ret->shown[i] = true;
            ret->ms[i] = ms;
        }
}

void gameday_result(const char *story, const char *json, size_t len, int64_t validate_ms, struct gameday_result *ret)
{
    json_error_t e;
    *ret = (struct gameday_result){.valid = false};
    json_t *o = json_loadb(json, len, 0, &e);
    if (!o)
        snprintf(ret->why, sizeof ret->why, "its answer is no JSON: %.200s", e.text);
    for (size_t i = 0; o && i < sizeof stories / sizeof stories[0]; i++)
        if (strcmp(stories[i].name, story) == 0)
            read_result(&stories[i], o, validate_ms, ret);
    json_decref(o);
}
