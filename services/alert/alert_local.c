/* alert_local.c - copies of problems and progress of alerts in this process. */
#include "alert/alert_local.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void drop(struct alert_local *l, struct alert_copy *c)
{
    HASH_DEL(l->copies, c);
    free(c->data);
    free(c);
}

static void forget_oldest(struct alert_local *l, const struct alert_copy *but)
{
    struct alert_copy *c = HASH_COUNT(l->copies) > ALERT_COPIES_MAX ? l->copies : NULL;
    while (c && (c->first || c == but)) /* in use */
        c = c->hh.next;
    if (c)
        drop(l, c);
    if (HASH_COUNT(l->seen) > ALERT_SEEN_MAX) {
        struct alert_seen *s = l->seen;
        HASH_DEL(l->seen, s);
        free(s);
    }
}

struct alert_copy *alert_local_find(const struct alert_local *l, const char *id)
{
    struct alert_copy *c;
    HASH_FIND_STR(l->copies, id, c);
    return c;
}

struct alert_copy *alert_local_of(struct alert_local *l, const char *id)
{
    struct alert_copy *c = alert_local_find(l, id);
    if (c) {
        HASH_DEL(l->copies, c);
    } else {
        c = calloc(1, sizeof *c);
        if (!c)
            return NULL;
        snprintf(c->id, sizeof c->id, "%s", id);
        c->last = &c->first;
    }
    HASH_ADD_STR(l->copies, id, c);
    forget_oldest(l, c);
    return c;
}

void alert_local_keep(struct alert_copy *c, const PB(ProblemChanged) * d, void *data, size_t len)
{
    struct alert_problem p;
    free(c->data);
    c->data = data;
    c->len = len;
    c->rev = d->revision;
    c->due_ms = d->due_unix_ms;
    c->open = alert_doc_read(d, &p) && alert_problem_open(&p);
}

PB(ProblemChanged) * alert_local_get(const struct alert_copy *c)
{
    return c->rev ? wire_unpack(PB_DESC(problem_changed), c->data, c->len, NULL) : NULL;
}

void alert_local_forget(struct alert_local *l, struct alert_copy *c)
{
    if (!c->first) {
        drop(l, c);
        return;
    }
    free(c->data);
    c->data = NULL;
    c->len = 0;
    c->rev = 0;
    c->open = false;
    c->due_ms = 0;
}

void alert_local_remember(struct alert_local *l, const char *alert_id, const char *progress)
{
    struct alert_seen *s;
    HASH_FIND_STR(l->seen, alert_id, s);
    if (!s) {
        s = calloc(1, sizeof *s);
        if (!s)
            return;
        snprintf(s->id, sizeof s->id, "%s", alert_id);
        HASH_ADD_STR(l->seen, id, s);
        forget_oldest(l, NULL);
    }
    snprintf(s->progress, sizeof s->progress, "%s", progress);
}

const char *alert_local_progress(const struct alert_local *l, const char *alert_id)
{
    struct alert_seen *s;
    HASH_FIND_STR(l->seen, alert_id, s);
    return s ? s->progress : "";
}

void alert_local_clear(struct alert_local *l)
{
    while (l->copies)
        drop(l, l->copies);
    while (l->seen) {
        struct alert_seen *s = l->seen;
        HASH_DEL(l->seen, s);
        free(s);
    }
}
