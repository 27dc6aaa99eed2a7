/* alert_story.h - what tests of problems share: the town of alert_town.h, and what STATE and the trail say of problems. */
#ifndef REDOUBT_TESTS_ALERT_STORY_H
#define REDOUBT_TESTS_ALERT_STORY_H

#include "alert/alert_doc.h"
#include "alert_town.h"

#define OK      REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define INVALID REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define PS(n)   REDOUBT__V1__PROBLEM_STATE__PROBLEM_STATE_##n

struct story {
    struct town *t;
    struct harness_proc *other; /* a second replica, not started yet */
    struct bus_watch *watch;
    PB(ProblemChanged) * seen[64]; /* the last of each problem, as STATE says */
    size_t n_seen;
    int escalated, acknowledged, silenced, unsilenced; /* audit records that something is done */
    int intended;
};

static inline void settings(const struct town *t, const char *more)
{
    FILE *f = fopen(t->config, "we");
    assert_non_null(f);
    fprintf(f,
            "nats: { url: \"%s\" }\n"
            "redis: { host: 127.0.0.1, port: %d }\n"
            "data_dir: %s/data\n"
            "log: { level: debug }\n"
            "alert:\n"
            "  lease_ttl: 500ms\n"
            "  channels:\n"
            "    - { name: chat, type: slack, url: \"http://127.0.0.1:%d/hook\", rate: 0 }\n"
            "    - { name: post, type: email, url: \"smtp://127.0.0.1:%d\", from: redoubt@example.org, to: "
            "[ops@example.org] }\n"
            "    - { name: record, type: file, path: %s }\n"
            "%s",
            t->k->nats->url, t->redis->port, harness_dir(t->k->h), t->slack.port, t->smtp.port, t->record, more);
    fclose(f);
}

static inline void on_problem(void *ctx, const struct bus_msg *m)
{
    struct story *s = ctx;
    struct err e;
    PB(ProblemChanged) *p = wire_unpack(PB_DESC(problem_changed), m->data, m->len, &e);
    if (!p) /* some tests say nonsense there */
        return;
    for (size_t i = 0; i < s->n_seen; i++) {
        if (strcmp(s->seen[i]->id, p->id) == 0) {
            PB(ProblemChanged) *was = s->seen[i];
            bool newer = p->revision > was->revision;
            s->seen[i] = newer ? p : was;
            wire_free(newer ? was : p);
            return;
        }
    }
    if (s->n_seen < sizeof s->seen / sizeof *s->seen)
        s->seen[s->n_seen++] = p;
    else
        wire_free(p);
}

static inline void on_audit(void *ctx, const struct bus_msg *m)
{
    struct story *s = ctx;
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), m->data, m->len, NULL);
    if (!r)
        return;
    bool done = r->outcome == REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE;
    bool strict = r->audit_class == REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT;
    s->escalated += done && strcmp(r->action, "alert.escalated") == 0;
    s->acknowledged += done && strcmp(r->action, "alert.acknowledged") == 0 && strcmp(r->actor, "eve") == 0;
    s->silenced += done && strcmp(r->action, "alert.silenced") == 0;
    s->unsilenced += done && strcmp(r->action, "alert.unsilenced") == 0;
    s->intended += strict && r->outcome == REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED;
    wire_free(r);
}

static inline int setup(void **state)
{
    void *town;
    if (town_setup(&town))
        return -1;
    struct story *s = calloc(1, sizeof *s);
    s->t = town;
    s->watch = bus_watch(s->t->kb.b, SUBJECT_PROBLEM ">", 0, on_problem, NULL, s);
    bus_subscribe(s->t->kb.b, SUBJECT_AUDIT "alert", NULL, on_audit, s);
    *state = s;
    return 0;
}

static inline int teardown(void **state)
{
    struct story *s = *state;
    void *town = s->t;
    if (s->other && harness_stop(s->other)) {
        print_error("the second replica did not end well\n");
        return -1;
    }
    bus_watch_close(s->watch);
    for (size_t i = 0; i < s->n_seen; i++)
        wire_free(s->seen[i]);
    free(s);
    return town_teardown(&town);
}

static inline void begin(struct story *s, const char *more)
{
    settings(s->t, more);
    restart_alert(s->t);
}

static inline const PB(ProblemChanged) * problem(const struct story *s, const char *key)
{
    for (size_t i = 0; i < s->n_seen; i++)
        if (strcmp(s->seen[i]->alert->dedup_key, key) == 0)
            return s->seen[i];
    return NULL;
}

static inline bool is(const struct story *s, const char *key, int state)
{
    const PB(ProblemChanged) *p = problem(s, key);
    return p && (int)p->state == state;
}

static inline PB(AlertCommand) about(const char *key)
{
    PB(AlertCommand) c = REDOUBT__V1__ALERT_COMMAND__INIT;
    c.by = (char *)"eve";
    c.reason = (char *)"because";
    c.problem = (char *)key;
    return c;
}

static inline const PB(CommandReply) * order(struct story *s, const char *verb, const PB(AlertCommand) * c)
{
    struct town *t = s->t;
    size_t len = 0;
    struct err e;
    char subject[64];
    void *data = wire_pack(c, &len, &e);
    if (!data)
        fail_msg("%s", e.text);
    snprintf(subject, sizeof subject, "%salert.%s", SUBJECT_CMD, verb);
    t->answered = false;
    bus_request(t->kb.b, &(struct bus_out){.subject = subject, .type = wire_type(c), .data = data, .len = len}, 5000,
                on_reply, t);
    free(data);
    KIT_WAIT(t->k, t->answered);
    return t->reply;
}

static inline void done(struct story *s, const char *verb, const PB(AlertCommand) * c)
{
    const PB(CommandReply) *r = order(s, verb, c);
    if (r->status != OK)
        fail_msg("%s: %s", verb, r->message);
}

static inline void acknowledge(struct story *s, const char *key, uint64_t for_ms)
{
    PB(AlertCommand) c = about(key);
    c.duration_ms = for_ms;
    done(s, "ack", &c);
}

static inline char *silence(struct story *s, const char *matcher, uint64_t for_ms)
{
    static char id[65];
    struct err e;
    PB(AlertCommand) c = about("");
    char *list[] = {(char *)matcher};
    c.matchers = list;
    c.n_matchers = 1;
    c.duration_ms = for_ms;
    done(s, "silence", &c);
    PB(Silence) *x = wire_unpack(PB_DESC(silence), s->t->reply->payload.data, s->t->reply->payload.len, &e);
    assert_non_null(x);
    snprintf(id, sizeof id, "%s", x->id);
    wire_free(x);
    return id;
}

static inline PB(ProblemList) * list(struct story *s, bool all, uint32_t limit, const char *after)
{
    PB(AlertCommand) c = about("");
    c.resolved = all;
    c.limit = limit;
    c.after = (char *)after;
    done(s, "list", &c);
    if (s->t->reply->payload.len == 0) /* there is none */
        return (PB(ProblemList) *)protobuf_c_message_unpack(PB_DESC(problem_list), NULL, 0, NULL);
    struct err e;
    PB(ProblemList) *l = wire_unpack(PB_DESC(problem_list), s->t->reply->payload.data, s->t->reply->payload.len, &e);
    if (!l)
        fail_msg("%s", e.text);
    return l;
}

#define ONE_ROUTE "  routes:\n    - { name: all, min_severity: info, channels: [record, chat] }\n"

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
