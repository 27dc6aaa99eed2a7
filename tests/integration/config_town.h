/* config_town.h - the room of the configuration with a real git and real files, in place of the service around it. */
#ifndef REDOUBT_TESTS_CONFIG_TOWN_H
#define REDOUBT_TESTS_CONFIG_TOWN_H

#include "../harness.h"
#include "common/clock.h"
#include "continuity/config_impl.h"
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct continuity {
    struct service s;
    struct settings *settings;
    struct config_room *room;
    int64_t now_ms;
    bool leads;
    char dir[600];
    /* what the room has said */
    PB(ConfigState) * state;
    unsigned announced, raised, resolved, records;
    char alert[64], alert_detail[600], record[2048];
    /* strict records */
    bool strict_fails, strict_held;
    unsigned strict;
    char strict_detail[2048];
    void (*on_strict)(struct continuity *c);
    outbox_cb then;
    void *then_ctx;
    /* the last answer */
    bool answered;
    int status;
    char answer[1100];
    PB(ConfigDiff) * diff;
    PB(ConfigHistory) * history;
};
static struct continuity town;
static struct harness *harness;
#define KIT_DIR harness_dir(harness)
#include "file_kit.h"

struct service *continuity_service_of(struct continuity *c)
{
    return &c->s;
}
const struct set_continuity *continuity_set(const struct continuity *c)
{
    return &c->settings->continuity;
}
int64_t continuity_now_ms(const struct continuity *c)
{
    return c->now_ms;
}
uint64_t continuity_fence(const struct continuity *c)
{
    return c->leads ? 7 : 0;
}
bool continuity_leads(const struct continuity *c)
{
    return c->leads;
}
const char *continuity_dir(const struct continuity *c)
{
    return c->dir;
}

static void *copy_of(const void *message)
{
    struct err e = {""};
    size_t len;
    void *data = wire_pack(message, &len, &e);
    if (!data)
        fail_msg("%s: %s", wire_type(message), e.text);
    void *copy = wire_unpack(((const ProtobufCMessage *)message)->descriptor, data, len, &e);
    assert_non_null(copy);
    free(data);
    return copy;
}

void continuity_announce(struct continuity *c, const char *subject, uint64_t revision, const void *message)
{
    assert_string_equal(subject, SUBJECT_CONTINUITY_CONFIG);
    assert_true(revision > 0);
    wire_free(c->state);
    c->state = copy_of(message);
    c->announced++;
}
void continuity_alert(struct continuity *c, const char *what, int severity, bool resolved, const char *agent,
                      const char *summary, const char *detail)
{
    assert_true(severity > 0 && agent && *summary);
    c->raised += !resolved;
    c->resolved += resolved;
    snprintf(c->alert, sizeof c->alert, "%s", what);
    snprintf(c->alert_detail, sizeof c->alert_detail, "%s", detail);
}
void continuity_record(struct continuity *c, const char *action, const char *actor, const char *subject, int outcome,
                       const char *detail)
{
    c->records++;
    snprintf(c->record, sizeof c->record, "%s|%s|%s|%d|%s", action, actor, subject, outcome, detail);
}

static void on_strict(void *ctx)
{
    struct continuity *c = ctx;
    outbox_cb then = c->then;
    c->then = NULL;
    then(c->then_ctx, c->strict_fails ? -1 : 0, "no sink");
}
void continuity_record_strict(struct continuity *c, const char *action, const char *actor, const char *subject,
                              const char *detail, outbox_cb then, void *ctx)
{
    c->strict++;
    snprintf(c->strict_detail, sizeof c->strict_detail, "%s|%s|%s|%s", action, actor, subject, detail);
    c->then = then;
    c->then_ctx = ctx;
    if (c->on_strict)
        c->on_strict(c);
    if (!c->strict_held)
        loop_defer(&c->s.loop, on_strict, c);
}

void config_answer(struct config_room *r, const char *reply, int status, const void *payload, const char *fmt, ...)
{
    struct continuity *c = r->c;
    va_list ap;
    assert_false(c->answered); /* once */
    assert_string_equal(reply, "reply");
    va_start(ap, fmt);
    vsnprintf(c->answer, sizeof c->answer, fmt, ap);
    va_end(ap);
    c->status = status;
    wire_free(c->diff);
    wire_free(c->history);
    c->diff = NULL;
    c->history = NULL;
    if (payload && ((const ProtobufCMessage *)payload)->descriptor == PB_DESC(config_diff))
        c->diff = copy_of(payload);
    else if (payload)
        c->history = copy_of(payload);
    c->answered = true;
}

/* ---- what tests do ---- */

static void turn(int64_t ms)
{
    bool never = false;
    loop_run_until(&town.s.loop, &never, ms);
}

/* A second, as the service counts it. */
static void tick(void)
{
    town.now_ms += 5000;
    config_room_tick(town.room, town.now_ms);
    turn(5);
}

#define UNTIL(what)                                                                                                  \
    do {                                                                                                             \
        int64_t until_ = clock_mono_ms() + 20000;                                                                    \
        while (!(what)) {                                                                                            \
            tick();                                                                                                  \
            if (clock_mono_ms() > until_)                                                                            \
                fail_msg("never: %s (answer: %s, alert: %s)", #what, town.answer, town.alert_detail);                \
        }                                                                                                            \
    } while (0)

static void open_room(void)
{
    struct err e = {""};
    town.room = config_room_open(&town, &e);
    assert_non_null(town.room);
    if (town.state)
        config_room_seen(town.room, town.state);
}

static void close_room(void)
{
    config_room_close(town.room);
    town.room = NULL;
    turn(5);
}

static const char *settings_text(const char *level, const char *more)
{
    static char buf[4096];
    snprintf(buf, sizeof buf, "# a comment\nlog: {level: %s}\n%s", level, more);
    return buf;
}

static void hand_change(const char *text)
{
    write_file("redoubt.yaml", text, 0640);
}

static void settle(void)
{
    UNTIL(town.room->ready && *town.room->tip.id && !town.room->committing && !town.room->change);
}

static int town_open(void **state)
{
    (void)state;
    struct conf_report report = {0};
    char text[1024];
    assert_true(sodium_init() >= 0);
    harness = harness_open();
    town = (struct continuity){.now_ms = 1000000, .leads = true};
    assert_int_equal(loop_init(&town.s.loop), 0);
    snprintf(town.dir, sizeof town.dir, "%s/continuity", KIT_DIR);
    assert_int_equal(mkdir(town.dir, 0700), 0);
    int n = snprintf(text, sizeof text, "continuity: {config: {file: %s/redoubt.yaml, look: 1s}}\n", KIT_DIR);
    town.settings = town.s.settings = conf_parse(&settings_schema, "test", text, (size_t)n, &report);
    assert_non_null(town.settings);
    hand_change(settings_text("info", ""));
    open_room();
    return 0;
}

static int town_close(void **state)
{
    (void)state;
    if (town.room)
        close_room();
    wire_free(town.state);
    wire_free(town.diff);
    wire_free(town.history);
    settings_free(town.settings);
    loop_done(&town.s.loop);
    harness_close(harness);
    return 0;
}

/* ---- orders ---- */

static void order(const char *verb, const PB(ContinuityCommand) * cmd)
{
    town.answered = false;
    config_room_command(town.room, verb, cmd, "reply");
}

static void put(const char *text, size_t part, char sha[static SHA256_TEXT])
{
    size_t len = strlen(text);
    sha256_text(text, len, sha);
    for (size_t at = 0; at < len; at += part) {
        PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
        m.sha256 = sha;
        m.offset = at;
        m.bytes = len;
        m.data = (ProtobufCBinaryData){.data = (uint8_t *)text + at, .len = len - at < part ? len - at : part};
        order("config_put", &m);
        assert_true(town.answered);
        if (town.status != CONFIG_OK)
            fail_msg("%s", town.answer);
    }
}

struct how {
    bool dry_run, force;
    const char *from;
};
static int apply(const char *text, struct how how)
{
    char sha[SHA256_TEXT];
    put(text, 1000, sha);
    PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
    m.by = "ada";
    m.reason = "more to read";
    m.sha256 = sha;
    m.from = (char *)(how.from ? how.from : town.room->tip.id);
    m.dry_run = how.dry_run;
    m.force = how.force;
    order("config_apply", &m);
    UNTIL(town.answered);
    return town.status;
}

static int roll_back(const char *to)
{
    PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
    m.by = "bob";
    m.reason = "was better";
    m.to = (char *)to;
    order("config_rollback", &m);
    UNTIL(town.answered);
    return town.status;
}

static const PB(ConfigHistory) * ask_history(const char *after)
{
    PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
    m.after = (char *)after;
    order("config_history", &m);
    UNTIL(town.answered);
    assert_int_equal(town.status, CONFIG_OK);
    assert_non_null(town.history);
    return town.history;
}

static int ask_diff(const char *from, const char *to)
{
    PB(ContinuityCommand) m = PB_INIT(CONTINUITY_COMMAND);
    m.from = (char *)from;
    m.to = (char *)to;
    order("config_diff", &m);
    UNTIL(town.answered);
    return town.status;
}

#endif
