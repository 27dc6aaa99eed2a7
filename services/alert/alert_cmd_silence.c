/* alert_cmd_silence.c - commands on silences: make one, end one, show them. */
#include "alert/alert_memory.h"
#include "alert/alert_order.h"
#include "common/clock.h"
#include "common/matcher.h"
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK_         REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define INVALID     REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE
#define YEAR_MS     (INT64_C(366) * 86400000)
#define PAYLOAD_MAX 60000 /* of an answer */

/* ---- both orders end alike: STATE has the silence as it is now ---- */

static void on_stored(void *ctx, const struct bus_stored *r)
{
    struct alert_order *o = ctx;
    struct alert_room *room = o->room;
    struct err e = {""};
    char from[CLOCK_TEXT_MAX], until[CLOCK_TEXT_MAX];
    const PB(Silence) *s = o->silence;
    if (room->closing) {
        alert_order_free(o);
    } else if (r->status != BUS_OK) {
        alert_order_end(o, UNAVAILABLE, 0, "the stream of states does not take it: %s",
                        r->error && *r->error ? r->error : bus_status_text(r->status));
    } else if (!alert_silences_add(alert_memory_silences(room->memory), s, &e)) {
        alert_order_end(o, UNAVAILABLE, 0, "%s", e.text);
    } else if (*s->ended_by) {
        alert_order_end_with(o, s, "silence %s is ended: what it muted is told, if it is still there", s->id);
    } else {
        alert_order_end_with(o, s, "silence %s holds from %s until %s", s->id,
                             alert_order_time(s->starts_unix_ms, from, sizeof from),
                             alert_order_time(s->ends_unix_ms, until, sizeof until));
    }
}

static void act(struct alert_order *o)
{
    char subject[SUBJECT_MAX_LEN], id[96];
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_SILENCE, o->silence->id);
    snprintf(id, sizeof id, "silence/%s/%llu", o->silence->id, (unsigned long long)o->silence->revision);
    service_announce(o->room->service, subject, id, o->silence, on_stored, o);
}

static PB(Silence) * copy(const PB(Silence) * s)
{
    size_t len = 0;
    void *data = wire_pack(s, &len, NULL);
    PB(Silence) *c = data ? wire_unpack(PB_DESC(silence), data, len, NULL) : NULL;
    free(data);
    return c;
}

static char *joined(char *const *texts, size_t n)
{
    size_t size = 1, at = 0;
    for (size_t i = 0; i < n; i++)
        size += strlen(texts[i]) + 1;
    char *text = malloc(size);
    if (!text)
        return NULL;
    text[0] = 0;
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%s", i ? " " : "", texts[i]);
    if (at > 1000) { /* a record's field holds 1,024 bytes */
        at = 1000;
        while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80)
            at--;
        text[at] = 0;
    }
    return text;
}

/* Records and does what o->silence says. */
static void carry_out(struct alert_order *o)
{
    if (o->silence) {
        snprintf(o->id, sizeof o->id, "%s", o->silence->id);
        o->until_ms = o->silence->ends_unix_ms;
        o->detail = joined(o->silence->matchers, o->silence->n_matchers);
        o->subject = strdup(o->silence->id);
        o->act = act;
    }
    if (o->silence && o->detail && o->subject) {
        alert_order_record(o);
        return;
    }
    service_reply(o->room->service, o->reply, UNAVAILABLE, 0, "out of memory");
    alert_order_free(o);
}

/* ---- silence ---- */

/* NULL if it is all right. */
static const char *wrong_with(const PB(AlertCommand) * c, int64_t now, struct err *e)
{
    if (c->n_matchers == 0)
        return "which alerts? at least one matcher is needed (matchers)";
    if (c->duration_ms == 0)
        return "for how long? a silence always has an end (duration_ms)";
    if (c->duration_ms > (uint64_t)ALERT_SILENCE_MOST_MS)
        return "a silence holds for at most 30 days";
    if (c->starts_unix_ms < 0 || c->starts_unix_ms > now + YEAR_MS)
        return "its beginning is out of range";
    if (c->starts_unix_ms > 0 && c->starts_unix_ms + (int64_t)c->duration_ms <= now)
        return "it would be over already";
    struct matchers *m = matchers_new((const char *const *)c->matchers, c->n_matchers, e);
    matchers_free(m);
    return m ? NULL : e->text;
}

void alert_on_silence(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(AlertCommand) *c = message;
    struct alert_room *r = s->state;
    struct err e = {""};
    int64_t now = clock_shared_ms();
    const PB(Silence) * all[ALERT_SILENCES_MAX];
    const char *wrong = wrong_with(c, now, &e);
    if (wrong) {
        service_bad_input(s, "command", m, wrong);
        service_reply(s, m->reply, INVALID, 0, "%s", wrong);
        return;
    }
    if (alert_silences_list(alert_memory_silences(r->memory), now, all, ALERT_SILENCES_MAX) >= ALERT_SILENCES_MAX) {
        service_reply(s, m->reply, UNAVAILABLE, 0, "there are %d silences already", ALERT_SILENCES_MAX);
        return;
    }
    struct alert_order *o = alert_order_new(r, c, m, "alert.silenced");
    if (!o)
        return;
    char id[16];
    snprintf(id, sizeof id, "s%08x", randombytes_random());
    PB(Silence) fresh = REDOUBT__V1__SILENCE__INIT;
    fresh.id = id;
    fresh.revision = 1;
    fresh.matchers = c->matchers;
    fresh.n_matchers = c->n_matchers;
    fresh.by = c->by;
    fresh.reason = c->reason;
    fresh.starts_unix_ms = c->starts_unix_ms ? c->starts_unix_ms : now;
    fresh.ends_unix_ms = fresh.starts_unix_ms + (int64_t)c->duration_ms;
    o->silence = copy(&fresh);
    carry_out(o);
}

/* ---- unsilence ---- */

void alert_on_unsilence(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(AlertCommand) *c = message;
    struct alert_room *r = s->state;
    int64_t now = clock_shared_ms();
    const PB(Silence) *was = alert_silences_find(alert_memory_silences(r->memory), c->silence);
    if (!was || was->ends_unix_ms <= now) {
        service_reply(s, m->reply, INVALID, 0, "%s silence %s; `redoubt alert silences` shows them",
                      was ? "over already:" : "there is no", c->silence);
        return;
    }
    struct alert_order *o = alert_order_new(r, c, m, "alert.unsilenced");
    if (!o)
        return;
    PB(Silence) ended = *was; /* its texts are only borrowed */
    ended.revision++;
    ended.ends_unix_ms = now;
    if (ended.starts_unix_ms > now)
        ended.starts_unix_ms = now;
    ended.ended_by = c->by;
    o->silence = copy(&ended);
    carry_out(o);
}

/* ---- silences ---- */

void alert_on_silences(struct service *s, const void *message, const struct bus_msg *m)
{
    (void)message;
    const struct alert_room *r = s->state;
    const PB(Silence) * all[ALERT_SILENCES_MAX];
    PB(SilenceList) list = REDOUBT__V1__SILENCE_LIST__INIT;
    int64_t now = clock_shared_ms();
    const struct alert_silences *x = alert_memory_silences(r->memory);
    size_t n = alert_silences_list(x, now, all, ALERT_SILENCES_MAX), bytes = 0;
    list.silences = (PB(Silence) **)all;
    while (list.n_silences < n && bytes < PAYLOAD_MAX) {
        bytes += protobuf_c_message_get_packed_size(&all[list.n_silences]->base) + 4;
        list.n_silences += bytes < PAYLOAD_MAX;
    }
    char text[96];
    snprintf(text, sizeof text, "%zu silences, %zu of them in force%s", n, alert_silences_in_force(x, now),
             list.n_silences < n ? "; the first ones are shown" : "");
    alert_reply_payload(s, m->reply, &list, text);
}
