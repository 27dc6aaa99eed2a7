/* rollback_check.c - makes the checks of a deployment once, all at a time: questions by side and instance, answers as samples. */
#include "rollback/rollback_check.h"
#include "common/metric.h"
#include "common/utf8.h"
#include "rollback/check_tally.h"
#include "rollback/rollback_check_kind.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

METRIC_DEFINE(asked_total, METRIC_COUNTER, "redoubt_rollback_questions_total",
              "Questions put by checks, each of one side or instance.");
METRIC_DEFINE(silent_total, METRIC_COUNTER, "redoubt_rollback_questions_silent_total",
              "Those without an answer of use.");

static const struct check_kind *const kinds[] = {
    [SET_CHECK_COMMAND] = &check_command,       [SET_CHECK_HTTP] = &check_http, [SET_CHECK_KNOWN] = &check_http,
    [SET_CHECK_PROMETHEUS] = &check_prometheus, [SET_CHECK_JSON] = &check_json, [SET_CHECK_NATS] = &check_nats,
};

struct check {
    const struct set_rb_check *set;
    const struct check_kind *kind;
    void *own;
    int sample; /* enum rollback_sample_kind */
    bool each, compare;
    struct check_tally tally[2]; /* of counters of each instance, by side */
};

struct checks {
    struct service *s;
    size_t n;
    struct check checks[ROLLBACK_CHECKS];
    struct rollback_check_rule rules[ROLLBACK_CHECKS];
    struct rollback_judge_rule rule;
    struct run *runs;
    bool closed;
};

/* One check of one side: what its questions have come to so far. */
struct half {
    bool asked;
    unsigned passed, failed, silent, numbers;
    double value;
    uint64_t bad, all;
    char text[CHECK_TEXT];
};
struct run {
    struct checks *of;
    checks_cb cb; /* NULL = nobody wants to know any more */
    void *ctx;
    size_t open; /* questions, and one that is the run's own */
    struct half half[ROLLBACK_CHECKS][2];
    bool made[ROLLBACK_CHECKS]; /* the check is made in this run */
    struct check_side side[2];  /* its texts are these copies, without the addresses */
    char version[2][ROLLBACK_ID], name[2][ROLLBACK_NAME], digest[2][129];
    struct question *questions;
    struct run *prev, *next;
};
struct question {
    struct run *run;
    size_t check;
    int which;
    char address[128];
    void *handle;
    struct question *prev, *next;
};

/* ---- opening ---- */

static unsigned limit_of(const struct set_rb_check *set)
{
    static const unsigned by_class[] = {
        [SET_CLASS_SECURITY] = 0, [SET_CLASS_PERFORMANCE] = 3, [SET_CLASS_ERRORS] = 4};
    return set->limit >= 0 ? (unsigned)set->limit : by_class[set->check_class];
}

_Static_assert((int)SET_CLASS_SECURITY == (int)ROLLBACK_SECURITY &&
                   (int)SET_CLASS_PERFORMANCE == (int)ROLLBACK_PERFORMANCE &&
                   (int)SET_CLASS_ERRORS == (int)ROLLBACK_ERRORS,
               "classes of settings and of the judge are the same");

static bool names_a_side(const struct set_rb_check *set)
{
    static const char *const names[] = {"address", "version", "digest", "side"};
    const char *const texts[] = {set->url, set->query, set->query_total};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++)
            if (check_names(texts[k], names[i]))
                return true;
    return set->type == SET_CHECK_NATS;
}

/* What the settings' own tables cannot see. */
static int sensible(const struct check *c, struct err *e)
{
    const struct set_rb_check *set = c->set;
    if (c->sample == ROLLBACK_PLAIN)
        return 0;
    if (!*set->most && !set->compare)
        return err_set(e, "it judges nothing: give `most`, or `compare: true`");
    if (set->compare && !names_a_side(set))
        return err_set(e, "it would compare a version with itself: name {{version}}, {{address}}, {{digest}} or "
                          "{{side}}, or say compare: false");
    return 0;
}

static int open_check(struct checks *c, const struct set_rb_check *set, struct err *e)
{
    struct err why = {""};
    struct check *x = &c->checks[c->n];
    *x = (struct check){.set = set, .kind = kinds[set->type]};
    x->sample = x->kind->sample(set);
    x->each = x->kind->each(set);
    x->compare = set->compare && x->sample != ROLLBACK_PLAIN;
    if (sensible(x, &why) || x->kind->open(c->s, set, &x->own, &why))
        return err_set(e, "the check %s cannot be made: %.400s", set->name, why.text);
    c->rules[c->n++] = (struct rollback_check_rule){.name = set->name,
                                                    .check_class = set->check_class,
                                                    .limit = limit_of(set),
                                                    .compare = x->compare,
                                                    .suite = set->suite,
                                                    .most = *set->most ? strtod(set->most, NULL) : -1,
                                                    .worse = (double)set->ratio_percent / 100,
                                                    .min_samples = (uint64_t)set->min_samples};
    return 0;
}

static void free_checks(struct checks *c)
{
    for (size_t i = 0; i < c->n; i++) {
        c->checks[i].kind->close(c->checks[i].own);
        check_tally_done(&c->checks[i].tally[0]);
        check_tally_done(&c->checks[i].tally[1]);
    }
    free(c);
}

struct checks *checks_open(struct service *s, const struct set_deployment *set, struct err *e)
{
    struct checks *c = calloc(1, sizeof *c);
    if (!c) {
        err_set(e, "out of memory");
        return NULL;
    }
    c->s = s;
    for (size_t i = 0; i < set->checks.n && i < ROLLBACK_CHECKS; i++) {
        if (open_check(c, CONF_AT(set->checks, struct set_rb_check, i), e)) {
            free_checks(c);
            return NULL;
        }
    }
    c->rule = (struct rollback_judge_rule){c->n, c->rules};
    return c;
}

const struct rollback_judge_rule *checks_rule(const struct checks *c)
{
    return &c->rule;
}

/* ---- answers ---- */

static void half_take(struct half *h, struct check *c, const struct question *q, const struct check_answer *a)
{
    bool bad_news =
        a->said == CHECK_FAILED ? h->failed == 0 : a->said == CHECK_NOTHING && h->failed == 0 && h->silent == 0;
    struct check_tally *t = &c->tally[q->which];
    switch (a->said) {
    case CHECK_PASSED:
        h->passed++;
        break;
    case CHECK_FAILED:
        h->failed++;
        break;
    case CHECK_NUMBER:
        h->value = h->numbers++ > 0 ? fmax(h->value, a->value) : a->value; /* of several instances the worst */
        break;
    case CHECK_COUNTED:
        h->numbers++;
        h->bad = a->bad;
        h->all = a->all;
        if (!c->each)
            break;
        if (check_tally_take(t, q->run->side[q->which].version, q->address, a->bad, a->all)) {
            h->bad = t->bad;
            h->all = t->all;
        } else {
            h->silent++;
        }
        break;
    default:
        h->silent++;
    }
    /* Of several instances the first that is not well is named. */
    if (bad_news || (!h->text[0] && a->text[0]))
        snprintf(h->text, sizeof h->text, "%s%s%s", c->each && q->address[0] && bad_news ? q->address : "",
                 c->each && q->address[0] && bad_news && a->text[0] ? ": " : "", a->text);
}

/* One instance that fails is enough; none that is silent is passed over. */
static void half_into(const struct half *h, int which, struct rollback_sample *s)
{
    s->failed[which] = h->failed > 0;
    s->data[which] = h->failed > 0 || (h->silent == 0 && h->passed + h->numbers > 0);
    s->value[which] = h->value;
    s->bad[which] = h->bad;
    s->all[which] = h->all;
}

static void sample_of(const struct run *r, size_t i, struct rollback_sample *s)
{
    const struct half *former = &r->half[i][0], *target = &r->half[i][1];
    *s = (struct rollback_sample){.check = i, .kind = r->of->checks[i].sample};
    half_into(former, 0, s);
    half_into(target, 1, s);
    if (target->text[0])
        snprintf(s->detail, sizeof s->detail, "%s", target->text);
    else if (former->asked && !s->data[0] && former->text[0])
        snprintf(s->detail, sizeof s->detail, "of the former version: %s", former->text);
    s->detail[utf8_valid_until(s->detail, strlen(s->detail))] = '\0';
}

static void end_one(struct run *r)
{
    struct checks *c = r->of;
    if (--r->open > 0)
        return;
    DL_DELETE(c->runs, r);
    if (r->cb) {
        struct rollback_sample samples[ROLLBACK_CHECKS];
        size_t n = 0;
        for (size_t i = 0; i < c->n; i++)
            if (r->made[i])
                sample_of(r, i, &samples[n++]);
        r->cb(r->ctx, samples, n); /* may close c: the run holds it no more, so its end is looked at before */
        free(r);
        return;
    }
    free(r);
    if (c->closed && !c->runs)
        free_checks(c);
}

static void on_answer(void *ctx, const struct check_answer *a)
{
    struct question *q = ctx;
    struct run *r = q->run;
    if (a->said == CHECK_NOTHING && r->cb)
        metric_add(&silent_total, 1);
    if (r->cb)
        half_take(&r->half[q->check][q->which], &r->of->checks[q->check], q, a);
    DL_DELETE(r->questions, q);
    free(q);
    end_one(r);
}

/* ---- questions ---- */

static void put_question(struct run *r, size_t i, int which, const char *address)
{
    struct check *c = &r->of->checks[i];
    struct question *q = calloc(1, sizeof *q);
    if (!q) {
        r->half[i][which].silent++;
        snprintf(r->half[i][which].text, CHECK_TEXT, "out of memory");
        return;
    }
    q->run = r;
    q->check = i;
    q->which = which;
    snprintf(q->address, sizeof q->address, "%s", address);
    DL_APPEND(r->questions, q);
    r->open++;
    metric_add(&asked_total, 1);
    q->handle =
        c->kind->ask(c->own, &(struct check_ask){.side = &r->side[which], .address = q->address}, on_answer, q);
}

static void put_questions(struct run *r, size_t i, int which, const struct check_side *side)
{
    const struct check *c = &r->of->checks[i];
    struct half *h = &r->half[i][which];
    h->asked = true;
    if (!side->there) {
        h->silent++;
        snprintf(h->text, sizeof h->text, "it does not run");
    } else if (c->each && side->n > 0) {
        for (size_t k = 0; k < side->n; k++)
            put_question(r, i, which, side->addresses[k]);
    } else if (c->each && c->kind != &check_command) {
        h->silent++;
        snprintf(h->text, sizeof h->text, "none of its instances is ready, with an address");
    } else {
        put_question(r, i, which, "");
    }
}

static void copy_side(struct run *r, int which, const struct check_side *side)
{
    snprintf(r->version[which], sizeof r->version[which], "%s", side->version ? side->version : "");
    snprintf(r->name[which], sizeof r->name[which], "%s", side->name ? side->name : "");
    snprintf(r->digest[which], sizeof r->digest[which], "%s", side->digest ? side->digest : "");
    r->side[which] = (struct check_side){.there = side->there,
                                         .version = r->version[which],
                                         .name = r->name[which],
                                         .digest = r->digest[which],
                                         .side = side->side};
}

static void end_of_asking(void *ctx)
{
    end_one(ctx);
}

void checks_run(struct checks *c, const struct check_side sides[2], bool suite, checks_cb cb, void *ctx)
{
    struct run *r = calloc(1, sizeof *r);
    if (!r)
        abort(); /* who asks is promised an answer */
    r->of = c;
    r->cb = cb;
    r->ctx = ctx;
    r->open = 1; /* so that the answer comes later, also if there is nothing to ask */
    DL_APPEND(c->runs, r);
    for (int which = 0; which < 2; which++)
        copy_side(r, which, &sides[which]);
    for (size_t i = 0; i < c->n; i++) {
        if (c->rules[i].suite && !suite)
            continue;
        r->made[i] = true;
        if (c->checks[i].compare)
            put_questions(r, i, 0, &sides[0]);
        put_questions(r, i, 1, &sides[1]);
    }
    loop_defer(&c->s->loop, end_of_asking, r);
}

void checks_close(struct checks *c)
{
    struct run *r;
    struct question *q, *after;
    if (!c)
        return;
    DL_FOREACH(c->runs, r)
    {
        r->cb = NULL;
        DL_FOREACH_SAFE(r->questions, q, after)
        {
            c->checks[q->check].kind->cancel(q->handle);
        }
    }
    if (c->runs)
        c->closed = true; /* goes with its last answer */
    else
        free_checks(c);
}
