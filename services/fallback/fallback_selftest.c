/* fallback_selftest.c - asks an agent every question of its settings, one after the other, before it is let act again. */
#include "common/clock.h"
#include "common/log.h"
#include "common/selftest.h"
#include "fallback/fallback_shell.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct question {
    char *name, *event;
    json_t *expect;
};
struct selftest {
    struct service *s;
    char agent[NAME_MAX_LEN + 1];
    struct question *questions; /* as they were when it began */
    size_t n, next;
    int64_t timeout_ms;
    char id[48]; /* of the question that is asked */
    selftest_done done;
    void *ctx;
};

int64_t selftest_patience_ms(const struct set_agent *set)
{
    return (int64_t)set->selftest.questions.n * set->selftest.timeout_ms;
}

static void selftest_free(struct selftest *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->questions[i].name);
        free(t->questions[i].event);
        json_decref(t->questions[i].expect);
    }
    free(t->questions);
    free(t);
}

static void finish(struct selftest *t, bool passed, const char *text)
{
    struct agent *a = t->s->state ? shell_agent(t->s->state, t->agent) : NULL;
    if (a)
        a->fx.asked = false;
    t->done(t->ctx, passed, text);
    selftest_free(t);
}

/* True if the answer is right; else why not. */
static bool right(const struct selftest *t, const struct bus_msg *m, char *why, size_t size)
{
    struct err e = {""};
    bool ok = false;
    PB(SelftestAnswer) *x = wire_unpack(PB_DESC(selftest_answer), m->data, m->len, &e);
    json_t *answer = x && !*x->error ? json_loads(x->answer_json, 0, NULL) : NULL;
    if (!x)
        snprintf(why, size, "the answer cannot be read: %s", e.text);
    else if (strcmp(x->id, t->id) != 0)
        snprintf(why, size, "the answer is to another question");
    else if (*x->error)
        snprintf(why, size, "no answer: %s", x->error);
    else if (!json_is_object(answer))
        snprintf(why, size, "the answer is not a JSON object");
    else
        ok = selftest_same(t->questions[t->next].expect, answer, why, size);
    if (!x)
        service_bad_input(t->s, "answer to a self-test", m, e.text);
    json_decref(answer);
    wire_free(x);
    return ok;
}

static void ask(struct selftest *t);

static void on_answer(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct selftest *t = ctx;
    char why[300] = "", text[400];
    if (st == BUS_OK && right(t, m, why, sizeof why)) {
        if (++t->next < t->n) {
            ask(t);
            return;
        }
        snprintf(text, sizeof text, "%zu of %zu questions answered rightly", t->n, t->n);
        finish(t, true, text);
        return;
    }
    if (st == BUS_TIMEOUT)
        snprintf(why, sizeof why, "no answer within %lld ms", (long long)t->timeout_ms);
    else if (st == BUS_NO_RESPONDERS)
        snprintf(why, sizeof why, "the agent does not run, or takes no self-tests");
    else if (st != BUS_OK)
        snprintf(why, sizeof why, "%s", bus_status_text(st));
    snprintf(text, sizeof text, "question %s (%zu of %zu): %s", t->questions[t->next].name, t->next + 1, t->n, why);
    finish(t, false, text);
}

static void ask(struct selftest *t)
{
    const struct question *q = &t->questions[t->next];
    char subject[SUBJECT_MAX_LEN];
    struct err e;
    size_t len;
    service_new_id(t->s, t->id);
    PB(SelftestQuestion) m = PB_INIT(SELFTEST_QUESTION);
    m.agent = t->agent;
    m.id = t->id;
    m.name = q->name;
    m.event_json = q->event;
    m.answer_by_unix_ms = clock_wall_ms() + t->timeout_ms;
    void *data = wire_pack(&m, &len, &e);
    if (!data) {
        finish(t, false, e.text);
        return;
    }
    snprintf(subject, sizeof subject, "%s%s", SUBJECT_SELFTEST, t->agent);
    struct bus_out o = {.subject = subject, .type = wire_type(&m), .data = data, .len = len};
    bus_request(t->s->bus, &o, t->timeout_ms, on_answer, t);
    free(data);
}

static struct selftest *prepare(struct agent *a)
{
    const struct set_selftest *set = &a->set->selftest;
    struct selftest *t = calloc(1, sizeof *t);
    if (!t || !(t->questions = calloc(set->questions.n, sizeof *t->questions))) {
        free(t);
        return NULL;
    }
    t->s = a->sh->s;
    t->timeout_ms = set->timeout_ms;
    snprintf(t->agent, sizeof t->agent, "%s", a->name);
    for (; t->n < set->questions.n; t->n++) {
        const struct set_question *from = CONF_AT(set->questions, struct set_question, t->n);
        struct question *q = &t->questions[t->n];
        *q = (struct question){strdup(from->name), strdup(from->event), json_loads(from->expect, 0, NULL)};
        if (!q->name || !q->event || !q->expect) {
            t->n++;
            selftest_free(t);
            return NULL;
        }
    }
    return t;
}

bool selftest_ask(struct agent *a, selftest_done done, void *ctx, const char **why)
{
    struct selftest *t = NULL;
    if (a->set->selftest.questions.n == 0)
        *why = "no self-test is set for it (`selftest.questions`); if a person vouches for it: --without-selftest";
    else if (a->fx.asked)
        *why = "a self-test is under way already";
    else if (!bus_up(a->sh->s->bus))
        *why = "the bus is down: it cannot be asked";
    else if (!(t = prepare(a)))
        *why = "out of memory";
    if (!t)
        return false;
    t->done = done;
    t->ctx = ctx;
    a->fx.asked = true;
    log_info("self-test before unfreezing", F_STR("agent", a->name), F_INT("questions", t->n));
    ask(t);
    return true;
}
