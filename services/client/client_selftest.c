/* client_selftest.c - questions that test the agent's judgement: handed to the agent, its answers sent when they come. */
#include "client/client_priv.h"
#include "common/clock.h"
#include "common/metric.h"
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(asked, METRIC_COUNTER, "redoubt_client_selftests_total", "Self-tests handed to the agent.");
METRIC_DEFINE(bad, METRIC_COUNTER, "redoubt_client_selftests_bad_total",
              "Self-tests that break the contract, or that could not wait.");

static void give_free(struct client_selftest *t)
{
    free(t->reply);
    free(t->answer);
    free(t->error);
    *t = (struct client_selftest){0};
}

/* A place for a question: free, or one that nobody waits for any more. The lock is held. */
static struct client_selftest *place_for(redoubt *r, int64_t now_ms)
{
    for (size_t i = 0; i < CLIENT_SELFTESTS_MAX; i++) {
        struct client_selftest *t = &r->selftests[i];
        if (t->id[0] && now_ms > t->by_ms)
            give_free(t);
        if (!t->id[0])
            return t;
    }
    return NULL;
}

void client_selftest_on_question(void *ctx, const struct bus_msg *m)
{
    redoubt *r = ctx;
    PB(SelftestQuestion) *q = m->reply ? wire_unpack(PB_DESC(selftest_question), m->data, m->len, NULL) : NULL;
    int64_t left_ms = q ? q->answer_by_unix_ms - clock_wall_ms() : 0, now_ms = clock_mono_ms();
    if (!q || strcmp(q->agent, r->agent) != 0 || strlen(q->id) >= sizeof r->selftests->id) {
        metric_add(&bad, 1);
        wire_free(q);
        return;
    }
    /* The clocks of two hosts differ: an answer that comes too late is no harm, one that is not given is. */
    if (left_ms < 1000)
        left_ms = 1000;
    if (left_ms > 600000)
        left_ms = 600000;
    pthread_mutex_lock(&r->lock);
    struct client_selftest *t = place_for(r, now_ms);
    if (t && (t->reply = strdup(m->reply))) {
        snprintf(t->id, sizeof t->id, "%s", q->id);
        t->by_ms = now_ms + left_ms;
    } else {
        t = NULL;
    }
    pthread_mutex_unlock(&r->lock);
    if (t) {
        metric_add(&asked, 1);
        r->o.on_selftest(r->o.ctx, &(redoubt_selftest){.id = q->id,
                                                       .name = q->name,
                                                       .event_json = q->event_json,
                                                       .answer_by_unix_ms = q->answer_by_unix_ms});
    } else {
        metric_add(&bad, 1);
    }
    wire_free(q);
}

int redoubt_selftest_answer(redoubt *r, const char *id, const char *answer_json, const char *error)
{
    PB(SelftestAnswer) a = REDOUBT__V1__SELFTEST_ANSWER__INIT;
    a.id = (char *)(uintptr_t)(id ? id : "");
    a.answer_json = (char *)(uintptr_t)(answer_json ? answer_json : "");
    a.error = (char *)(uintptr_t)(answer_json ? "" : error && *error ? error : "no answer");
    if (wire_check(&a, NULL) < 0)
        return -1;
    char *answer = strdup(a.answer_json), *why = strdup(a.error);
    struct client_selftest *t = NULL;
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < CLIENT_SELFTESTS_MAX && !t; i++)
        if (strcmp(r->selftests[i].id, id) == 0 && !r->selftests[i].answer &&
            clock_mono_ms() <= r->selftests[i].by_ms)
            t = &r->selftests[i];
    bool ok = t && answer && why;
    if (ok) {
        t->answer = answer;
        t->error = why;
    }
    pthread_mutex_unlock(&r->lock);
    if (!ok) {
        free(answer);
        free(why);
        return -1;
    }
    uv_async_send(&r->wake);
    return 0;
}

static void publish(redoubt *r, const struct client_selftest *t)
{
    size_t len;
    PB(SelftestAnswer) a = REDOUBT__V1__SELFTEST_ANSWER__INIT;
    a.id = (char *)(uintptr_t)t->id;
    a.answer_json = t->answer;
    a.error = t->error;
    void *data = wire_pack(&a, &len, NULL);
    const struct bus_out out = {.subject = t->reply, .type = wire_type(&a), .data = data, .len = len};
    if (!data || bus_publish(r->bus, &out, NULL) < 0)
        metric_add(&bad, 1);
    free(data);
}

void client_selftest_flush(redoubt *r)
{
    for (size_t i = 0; i < CLIENT_SELFTESTS_MAX; i++) {
        struct client_selftest t = {0};
        pthread_mutex_lock(&r->lock);
        if (r->selftests[i].answer) {
            t = r->selftests[i];
            r->selftests[i] = (struct client_selftest){0};
        }
        pthread_mutex_unlock(&r->lock);
        if (t.answer)
            publish(r, &t);
        give_free(&t);
    }
}

void client_selftest_done(redoubt *r)
{
    for (size_t i = 0; i < CLIENT_SELFTESTS_MAX; i++)
        give_free(&r->selftests[i]);
}
