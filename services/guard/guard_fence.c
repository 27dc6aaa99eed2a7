/* guard_fence.c - a freeze asks whether actions of an older epoch are still under way; the answer waits until there are none. */
#include "guard/guard_impl.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAITING_MAX 32 /* per agent: askings of one freeze are few; the oldest is dropped, and asked again */

struct guard_fence {
    struct guard_fence *next;
    uint64_t epoch;
    char id[65];
};

static uint32_t older_in_hand(const struct guard_agent *a, uint64_t epoch)
{
    uint32_t n = 0;
    for (const struct guard_act *x = a->acts; x; x = x->peer)
        n += x->under_epoch < epoch;
    return n;
}

static void answer(struct service *s, const struct guard_agent *a, uint64_t epoch, const char *id, uint32_t in_hand)
{
    char subject[SUBJECT_MAX_LEN];
    PB(Fenced) m = PB_INIT(FENCED);
    m.agent = (char *)a->name;
    m.epoch = epoch;
    m.id = (char *)id;
    m.instance = (char *)s->instance;
    m.in_hand = in_hand;
    snprintf(subject, sizeof subject, SUBJECT_FENCED "%s", a->name);
    service_reply_message(s, subject, &m);
}

void guard_on_fence(struct service *s, const void *message, const struct bus_msg *m)
{
    struct guard *g = s->state;
    const PB(Fence) *f = message;
    struct guard_agent *a = guard_agent(g, f->agent);
    const char *agent = subject_tail(m->subject, SUBJECT_FENCE);
    if (!a || !agent || strcmp(agent, f->agent) != 0) {
        service_bad_input(s, "fence", m, a ? "subject and agent differ" : "no such agent");
        return;
    }
    if (f->epoch > a->fence_epoch)
        a->fence_epoch = f->epoch; /* from here on nothing older passes, whether its directive is here or not */
    uint32_t in_hand = older_in_hand(a, f->epoch);
    /* Also when some are: a guard that Redis does not list, as it cannot reach it, is waited for from now on. */
    answer(s, a, f->epoch, f->id, in_hand);
    if (in_hand == 0)
        return;
    struct guard_fence *x = calloc(1, sizeof *x), **link = &a->fences;
    if (!x)
        return; /* no answer: the freeze waits its full time */
    x->epoch = f->epoch;
    snprintf(x->id, sizeof x->id, "%s", f->id);
    size_t n = 1;
    for (; *link; link = &(*link)->next)
        n++;
    *link = x;
    if (n > WAITING_MAX) {
        struct guard_fence *oldest = a->fences;
        a->fences = oldest->next;
        free(oldest);
    }
}

void guard_fence_done(struct guard_act *x)
{
    struct guard_agent *a = x->a;
    for (struct guard_fence **link = &a->fences; *link;) {
        struct guard_fence *f = *link;
        if (older_in_hand(a, f->epoch)) {
            link = &f->next;
            continue;
        }
        *link = f->next;
        answer(x->g->s, a, f->epoch, f->id, 0);
        free(f);
    }
}

void guard_fence_free(struct guard_agent *a)
{
    for (struct guard_fence *f; (f = a->fences);) {
        a->fences = f->next;
        free(f);
    }
}
