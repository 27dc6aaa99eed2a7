/* alert_list.c - the command `list`: problems in order of their ids, page by page, as many as an answer holds.
 *
 * From Redis' index, one document after the other. Without Redis from STATE: a replay, of which the first ones that fit stay. */
#include "alert/alert_index.h"
#include "alert/alert_memory.h"
#include "alert/alert_order.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define UNAVAILABLE REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE
#define INVALID     REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID
#define BYTES_MAX   60000 /* of an answer */
#define PER_ANSWER  500
#define REPLAY_MS   60000

struct alert_list {
    struct alert_room *room;
    char reply[ALERT_REPLY_MAX];
    bool all; /* those that are over, too */
    uint32_t limit;
    char after[ALERT_ID_LEN + 1]; /* the last id that was looked at */
    PB(ProblemChanged) * found[PER_ANSWER + 1];
    size_t n, bytes;
    uint64_t total;
    bool more;
    struct alert_page page;
    size_t at;
    struct bus_watch *watch;
    struct alert_list *prev, *next; /* with a watch */
};

static size_t size_of(const PB(ProblemChanged) * d)
{
    return protobuf_c_message_get_packed_size(&d->base) + 4;
}

static bool fits(const struct alert_list *l, const PB(ProblemChanged) * d)
{
    struct alert_problem p;
    return alert_doc_read(d, &p) && (l->all || alert_problem_open(&p));
}

static bool full(const struct alert_list *l, const PB(ProblemChanged) * next)
{
    return l->n > 0 && (l->n >= l->limit || l->n >= PER_ANSWER || l->bytes + size_of(next) > BYTES_MAX);
}

static void list_free(struct alert_list *l)
{
    struct alert_room *r = l->room;
    for (size_t i = 0; i < l->n; i++)
        wire_free(l->found[i]);
    if (l->watch) {
        bus_watch_close(l->watch);
        DL_DELETE(r->memory->lists, l);
    }
    free(l);
    alert_room_unref(r);
}

static void answer(struct alert_list *l)
{
    PB(ProblemList) list = REDOUBT__V1__PROBLEM_LIST__INIT;
    char text[96];
    if (!l->room->closing) {
        list.problems = l->found;
        list.n_problems = l->n;
        list.total = l->total > UINT32_MAX ? UINT32_MAX : (uint32_t)l->total;
        if (l->more && l->n > 0)
            list.next = l->found[l->n - 1]->id;
        snprintf(text, sizeof text, "%zu of %u problems", l->n, list.total);
        alert_reply_payload(l->room->service, l->reply, &list, text);
    }
    list_free(l);
}

static void give_up(struct alert_list *l, const char *why)
{
    if (!l->room->closing)
        service_reply(l->room->service, l->reply, UNAVAILABLE, 0, "%s", why);
    list_free(l);
}

static PB(ProblemChanged) * copy(const PB(ProblemChanged) * d)
{
    size_t len = 0;
    void *data = wire_pack(d, &len, NULL);
    PB(ProblemChanged) *c = data ? wire_unpack(PB_DESC(problem_changed), data, len, NULL) : NULL;
    free(data);
    return c;
}

/* ---- from Redis ---- */

static void next_one(struct alert_list *l);

static void on_got(void *ctx, const struct alert_changed *r)
{
    struct alert_list *l = ctx;
    if (r->problem && fits(l, r->problem) && !l->room->closing) {
        PB(ProblemChanged) *d = full(l, r->problem) ? NULL : copy(r->problem);
        if (!d) {
            l->more = true;
            answer(l);
            return;
        }
        l->bytes += size_of(d);
        l->found[l->n++] = d;
    }
    next_one(l);
}

static void on_page(void *ctx, const struct alert_page *p)
{
    struct alert_list *l = ctx;
    struct alert_memory *m = l->room->memory;
    if (!p->ok) {
        give_up(l, "Redis has not answered; try again");
    } else {
        l->page = *p;
        l->at = 0;
        l->total = p->total;
        next_one(l);
    }
    alert_memory_answered(m);
}

static void ask_page(struct alert_list *l)
{
    struct alert_memory *m = l->room->memory;
    m->asks++;
    alert_index_page(m->store, !l->all, l->after, on_page, l);
}

static void next_one(struct alert_list *l)
{
    struct alert_memory *m = l->room->memory;
    if (l->room->closing || m->closed) {
        list_free(l);
    } else if (l->at < l->page.n) {
        const char *id = l->page.ids[l->at++];
        memcpy(l->after, id, sizeof l->after);
        alert_memory_change(m, &(struct alert_change){.kind = ALERT_CHANGE_GET, .id = id}, on_got, l);
    } else if (l->page.n == ALERT_PAGE_MAX) {
        ask_page(l);
    } else {
        answer(l);
    }
}

/* ---- from STATE ---- */

static void drop_last(struct alert_list *l)
{
    PB(ProblemChanged) *d = l->found[--l->n];
    l->bytes -= size_of(d);
    wire_free(d);
    l->more = true;
}

/* Keeps the first ones in order of id; live messages may come in between, so the newer of one id stays. */
static void on_state(void *ctx, const struct bus_msg *msg)
{
    struct alert_list *l = ctx;
    PB(ProblemChanged) *d = wire_unpack(PB_DESC(problem_changed), msg->data, msg->len, NULL);
    if (!d || !fits(l, d)) {
        wire_free(d);
        return;
    }
    l->total++;
    size_t at = l->n;
    while (at > 0 && strcmp(l->found[at - 1]->id, d->id) >= 0)
        at--;
    bool same = at < l->n && strcmp(l->found[at]->id, d->id) == 0;
    if (strcmp(d->id, l->after) <= 0 || same) {
        l->total -= same;
        wire_free(d);
        return;
    }
    memmove(&l->found[at + 1], &l->found[at], (l->n - at) * sizeof l->found[0]);
    l->found[at] = d;
    l->n++;
    l->bytes += size_of(d);
    while (l->n > 1 && (l->n > l->limit || l->n > PER_ANSWER || l->bytes > BYTES_MAX))
        drop_last(l);
}

static void answer_later(void *ctx)
{
    answer(ctx);
}

static void on_synced(void *ctx)
{
    struct alert_list *l = ctx;
    bus_watch_close(l->watch);
    l->watch = NULL;
    DL_DELETE(l->room->memory->lists, l);
    loop_defer(&l->room->service->loop, answer_later, l);
}

/* ---- */

void alert_on_list(struct service *s, const void *message, const struct bus_msg *m)
{
    const PB(AlertCommand) *c = message;
    struct alert_room *r = s->state;
    if (strlen(c->after) > ALERT_ID_LEN) {
        service_reply(s, m->reply, INVALID, 0, "`after` is the id of a problem");
        return;
    }
    struct alert_list *l = strlen(m->reply) < ALERT_REPLY_MAX ? calloc(1, sizeof *l) : NULL;
    if (!l) {
        service_reply(s, m->reply, UNAVAILABLE, 0, "out of memory");
        return;
    }
    l->room = r;
    l->all = c->resolved;
    l->limit = c->limit ? c->limit : PER_ANSWER;
    snprintf(l->reply, sizeof l->reply, "%s", m->reply);
    snprintf(l->after, sizeof l->after, "%s", c->after);
    alert_room_ref(r);
    if (store_up(s->store)) {
        ask_page(l);
        return;
    }
    l->watch = bus_watch(s->bus, SUBJECT_PROBLEM ">", REPLAY_MS, on_state, on_synced, l);
    if (l->watch)
        DL_APPEND(r->memory->lists, l);
    else
        give_up(l, "neither Redis nor the stream of states can be read");
}

void alert_lists_drop(struct alert_memory *m)
{
    while (m->lists)
        list_free(m->lists);
}
