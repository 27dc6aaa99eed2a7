/* alert_cmd.c - what operators ask: does a channel work? */
#include "alert/alert_room.h"
#include "common/clock.h"
#include "common/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK_         REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define INVALID     REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE
#define REPLY_MAX   256

/* A test under way: one attempt, whatever the channel's circuit says. */
struct test {
    struct alert_room *room;
    struct alert_channel *channel;
    char reply[REPLY_MAX];
    char id[64], key[96], summary[320];
    PB(Alert) alert;
    const PB(Alert) * list[1];
    struct alert_message message;
};

static void test_free(struct test *t)
{
    struct alert_room *r = t->room;
    alert_channel_unref(t->channel);
    free(t);
    alert_room_unref(r);
}

static void on_tested(void *ctx, const struct alert_result *result)
{
    struct test *t = ctx;
    struct alert_room *r = t->room;
    struct service *s = r->service;
    if (!r->closing) {
        enum alert_class class = alert_classify(t->channel->kind->proto, &result->outcome);
        bool good = class == ALERT_CLASS_ACCEPTED;
        bool record = t->channel->kind->proto == ALERT_PROTO_FILE;
        alert_say_receipt(r, &t->alert, t->channel,
                          !good    ? ALERT_STATUS_FAILED
                          : record ? ALERT_STATUS_RECORDED
                                   : ALERT_STATUS_ACCEPTED,
                          1, result, NULL);
        if (good)
            alert_room_told(r, t->channel, class, result);
        service_reply(s, t->reply, good ? OK_ : UNAVAILABLE, 0, "channel %s %s: %.300s", t->channel->set.name,
                      good ? "has accepted the test" : "has not accepted the test", result->detail);
    }
    test_free(t);
}

void alert_on_test(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(AlertCommand) *c = message;
    struct alert_room *r = s->state;
    struct alert_channel *channel = alert_room_channel(r, c->channel);
    if (!channel) {
        service_reply(s, m->reply, INVALID, 0, "there is no channel %s; see alert.channels of the settings",
                      c->channel);
        return;
    }
    struct test *t = strlen(m->reply) < REPLY_MAX ? calloc(1, sizeof *t) : NULL;
    if (!t) {
        service_reply(s, m->reply, UNAVAILABLE, 0, "out of memory");
        return;
    }
    t->room = r;
    t->channel = channel;
    alert_room_ref(r);
    alert_channel_ref(channel);
    snprintf(t->reply, sizeof t->reply, "%s", m->reply);
    char fresh[48];
    snprintf(t->id, sizeof t->id, "test-%s", service_new_id(s, fresh));
    snprintf(t->key, sizeof t->key, "test/%s", channel->set.name);
    snprintf(t->summary, sizeof t->summary, "Test of alert channel %s, asked for by %s", channel->set.name, c->by);
    t->alert = (PB(Alert))REDOUBT__V1__ALERT__INIT;
    t->alert.id = t->id;
    t->alert.dedup_key = t->key;
    t->alert.severity = REDOUBT__V1__SEVERITY__SEVERITY_INFO;
    t->alert.source = (char *)s->desc->name;
    t->alert.summary = t->summary;
    t->alert.detail = (char *)"Nothing is wrong. If you can read this, the channel works.";
    t->alert.raised_unix_ms = clock_wall_ms();
    t->list[0] = &t->alert;
    t->message = alert_message_one(t->list, NULL);

    PB(AuditRecord) record = REDOUBT__V1__AUDIT_RECORD__INIT;
    record.action = (char *)"alert.test";
    record.actor = c->by;
    record.subject = channel->set.name;
    record.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED;
    record.detail = t->summary;
    service_audit(s, &record, NULL, NULL);
    int64_t attempt_ms = channel->set.attempt_ms;
    struct alert_job *j =
        alert_channel_send(channel, &t->message, true, attempt_ms, clock_mono_ms() + attempt_ms, on_tested, t);
    if (j) {
        j->forced = true;
        j->surplus = false;
    } else {
        service_reply(s, m->reply, UNAVAILABLE, 0, "out of memory");
        test_free(t);
    }
}
