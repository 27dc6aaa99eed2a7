/* failover_town.h - one alert service, a channel for every way to fail, each followed by one that works: who was told when. */
#ifndef REDOUBT_TESTS_FAILOVER_TOWN_H
#define REDOUBT_TESTS_FAILOVER_TOWN_H

#include "alert_town.h"

#define FAILOVER_ATTEMPT_MS  500
#define FAILOVER_TRIES       3
#define FAILOVER_DEADLINE_MS 3000

/* What is to follow: the next channel at once; at once after a second try; or at the deadline at the latest. */
enum failover_kind { FAILOVER_AT_ONCE, FAILOVER_QUICK, FAILOVER_DEADLINE };
struct failover_case {
    const char *name;
    const char *mode;   /* of a simulator of its own; NULL = the URL says it all */
    const char *scheme; /* for a URL that leads nowhere */
    int retry_after_s;  /* of 429 */
    enum failover_kind kind;
};
static const struct failover_case failover_cases[] = {
    {"refuse", "refuse", "http", 0, FAILOVER_QUICK},   {"dns", NULL, "http", 0, FAILOVER_QUICK},
    {"tls", "ok", "https", 0, FAILOVER_QUICK},         {"400", "400", "http", 0, FAILOVER_AT_ONCE},
    {"401", "401", "http", 0, FAILOVER_AT_ONCE},       {"404", "404", "http", 0, FAILOVER_AT_ONCE},
    {"429-far", "429", "http", 60, FAILOVER_AT_ONCE},  {"429-near", "429", "http", 1, FAILOVER_DEADLINE},
    {"429-bare", "429", "http", 0, FAILOVER_DEADLINE}, {"500", "500", "http", 0, FAILOVER_DEADLINE},
    {"503", "503", "http", 0, FAILOVER_DEADLINE},      {"hang", "hang", "http", 0, FAILOVER_DEADLINE},
    {"slow", "slow", "http", 0, FAILOVER_DEADLINE},    {"cut", "cut", "http", 0, FAILOVER_DEADLINE},
};
#define FAILOVER_CASES (sizeof failover_cases / sizeof *failover_cases)

/* What became of one alert. */
struct failover {
    int tried, again, failed;            /* attempts on the broken one; of those followed by another; ends of it */
    int accepted_bad, accepted_good;     /* must be 0 and 1 */
    bool order;                          /* the broken one was given up before the good one was told */
    int64_t first_unix_ms, told_unix_ms; /* the first attempt's start, and the other channel's acceptance */
    char detail[200];
};
struct failover_town {
    struct town *t;
    struct sim bad[FAILOVER_CASES], good;
    struct failover got[FAILOVER_CASES];
    char ids[FAILOVER_CASES][80];
};

static void on_failover_receipt(void *ctx, const struct bus_msg *m)
{
    struct failover_town *f = ctx;
    struct err e;
    PB(DeliveryReceipt) *r = wire_unpack(PB_DESC(delivery_receipt), m->data, m->len, &e);
    for (size_t i = 0; r && i < FAILOVER_CASES; i++) {
        struct failover *x = &f->got[i];
        if (strcmp(r->alert_id, f->ids[i]) != 0)
            continue;
        bool good = strcmp(r->channel, "good") == 0;
        if (!good && r->status != ST(RECORDED) && *r->channel) {
            if (x->tried++ == 0 || r->started_unix_ms < x->first_unix_ms)
                x->first_unix_ms = r->started_unix_ms;
            x->again += r->status == ST(RETRYING);
            x->failed += r->status == ST(FAILED);
            x->accepted_bad += r->status == ST(ACCEPTED);
            snprintf(x->detail, sizeof x->detail, "%s", r->detail);
        } else if (good && r->status == ST(ACCEPTED)) {
            x->order = x->failed == 1;
            x->accepted_good++;
            x->told_unix_ms = r->ended_unix_ms;
        }
    }
    wire_free(r);
}

static inline void failover_start(struct failover_town *f, struct town *t)
{
    f->t = t;
    start_sim(t, &f->good, "hook");
    FILE *c = fopen(t->config, "we");
    assert_non_null(c);
    fprintf(c,
            "nats: { url: \"%s\" }\nredis: { host: 127.0.0.1, port: %d }\ndata_dir: %s/data\nalert:\n  channels:\n",
            t->k->nats->url, t->redis->port, harness_dir(t->k->h));
    for (size_t i = 0; i < FAILOVER_CASES; i++) {
        const struct failover_case *k = &failover_cases[i];
        char host[64] = "nobody.invalid";
        if (k->mode) {
            char body[128];
            start_sim(t, &f->bad[i], "hook");
            snprintf(body, sizeof body, "{\"mode\":\"%s\",\"slow_ms\":2500,\"retry_after\":%d}", k->mode,
                     k->retry_after_s);
            ask(t, &f->bad[i], "/sim/mode", body);
            snprintf(host, sizeof host, "127.0.0.1:%d", f->bad[i].port);
        }
        fprintf(c,
                "    - { name: bad-%s, type: webhook, url: \"%s://%s/hook\", attempt: %dms, tries: %d, deadline: "
                "%dms }\n",
                k->name, k->scheme, host, FAILOVER_ATTEMPT_MS, FAILOVER_TRIES, FAILOVER_DEADLINE_MS);
    }
    fprintf(c, "    - { name: good, type: webhook, url: \"http://127.0.0.1:%d/hook\" }\n  routes:\n", f->good.port);
    for (size_t i = 0; i < FAILOVER_CASES; i++)
        fprintf(c, "    - { match: [\"label.case=%s\"], channels: [bad-%s, good] }\n", failover_cases[i].name,
                failover_cases[i].name);
    fprintf(c, "    - { channels: [good] }\n");
    fclose(c);
    bus_subscribe(t->kb.b, SUBJECT_DELIVERY ">", NULL, on_failover_receipt, f);
    restart_alert(t);
}

static inline void failover_raise(struct failover_town *f, size_t i, unsigned round)
{
    PB(Label) label = REDOUBT__V1__LABEL__INIT, *labels[] = {&label};
    label.key = (char *)"case";
    label.value = (char *)failover_cases[i].name;
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    snprintf(f->ids[i], sizeof f->ids[i], "case-%s-%u", failover_cases[i].name, round);
    f->got[i] = (struct failover){0};
    a.id = a.dedup_key = f->ids[i];
    a.severity = SEV(HIGH);
    a.source = (char *)"test";
    a.summary = (char *)"one of many ways to fail";
    a.labels = labels;
    a.n_labels = 1;
    a.raised_unix_ms = clock_wall_ms();
    size_t len;
    struct err e;
    void *data = wire_pack(&a, &len, &e);
    size_t before = f->t->stored;
    assert_non_null(data);
    struct bus_out o = {.subject = SUBJECT_ALERT, .id = a.id, .type = wire_type(&a), .data = data, .len = len};
    bus_store(f->t->kb.b, &o, 0, on_stored, f->t);
    free(data);
    KIT_WAIT(f->t->k, f->t->stored > before);
}

static inline void failover_wait(struct failover_town *f, size_t i)
{
    KIT_WAIT_MS(f->t->k, f->got[i].accepted_good > 0, 30000);
}

static inline void failover_stop(struct failover_town *f)
{
    for (size_t i = 0; i < FAILOVER_CASES; i++)
        if (failover_cases[i].mode)
            (void)harness_stop(f->bad[i].proc);
    (void)harness_stop(f->good.proc);
}

#endif
