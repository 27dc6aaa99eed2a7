/* order.c - an operator's order is passed on to the replica that acts, and its answer is passed back. */
#include "common/order.h"
#include "common/log.h"
#include "common/subjects.h"
#include <stdlib.h>
#include <string.h>

#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE

struct passed {
    struct service *s;
    const struct order_way *way;
    void *order;
    char subject[SUBJECT_MAX_LEN];
    char reply[ORDER_REPLY];
};

const char *order_verb(const struct order_way *w, const struct bus_msg *m)
{
    const char *verb = subject_tail(m->subject, w->acts); /* it may lie below the other one */
    return verb ? verb : subject_tail(m->subject, w->any);
}

bool order_fit(struct service *s, const struct order_way *w, const struct bus_msg *m, bool known)
{
    bool passed = subject_tail(m->subject, w->acts) != NULL;
    if (known && m->reply && strlen(m->reply) < ORDER_REPLY)
        return true;
    service_bad_input(s, passed ? "command passed on" : "command", m,
                      passed ? "no such verb, or no reply subject"
                             : "no such verb, or its reply subject is too long");
    return false;
}

static bool blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '\0';
}

const char *order_unsaid(const char *by, const char *reason)
{
    if (blank(by))
        return "say who asks: `by` is empty; it lands in the audit trail";
    if (reason && blank(reason))
        return "say why: `reason` is empty; it lands in the audit trail";
    return NULL;
}

static void on_answer(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct passed *p = ctx;
    struct err e;
    if (p->s->state && st == BUS_OK) {
        struct bus_out o = {.subject = p->reply, .type = m->type, .data = m->data, .len = m->len};
        if (bus_publish(p->s->bus, &o, &e))
            log_warn("reply lost", F_STR("why", e.text));
    } else if (p->s->state) {
        p->way->nobody(p->s, p->order, &(struct bus_msg){.subject = p->subject, .reply = p->reply});
    }
    wire_free(p->order);
    free(p);
}

void order_pass_on(struct service *s, const struct order_way *w, const char *verb, int64_t patience_ms,
                   const struct bus_msg *m)
{
    struct err e;
    struct passed *p = calloc(1, sizeof *p);
    if (p)
        p->order = wire_unpack(w->desc, m->data, m->len, &e);
    if (!p || !p->order) {
        free(p);
        service_reply(s, m->reply, UNAVAILABLE, 0, "out of memory");
        return;
    }
    char subject[SUBJECT_MAX_LEN];
    p->s = s;
    p->way = w;
    snprintf(p->subject, sizeof p->subject, "%s", m->subject);
    snprintf(p->reply, sizeof p->reply, "%s", m->reply);
    snprintf(subject, sizeof subject, "%s%s", w->acts, verb);
    struct bus_out o = {.subject = subject, .type = m->type, .data = m->data, .len = m->len};
    bus_request(s->bus, &o, patience_ms, on_answer, p);
}

void order_unheard(struct service *s, const char *reply, const char *what)
{
    service_reply(s, reply, UNAVAILABLE, 0,
                  "no replica of %s acts for %s at the moment: is the shared state (Redis) reachable? try again",
                  s->desc->name, what);
}
