/* alert_trail.c - audit records of the alert service's own work: many of one turn of the loop go to disk as one message. */
#include "alert/alert_room.h"
#include "common/clock.h"
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX   100
#define BATCH_BYTES 40000 /* of a message of 64 KiB at most */

struct waiter {
    loop_cb done;
    void *ctx;
};
/* Records that are gathered, in memory of their own until they are packed. */
struct batch {
    struct alert_room *room;
    PB(AuditRecord) * list[BATCH_MAX];
    struct waiter waiters[BATCH_MAX];
    size_t n, bytes;
};
struct alert_trail {
    struct alert_room *room;
    struct batch *open; /* NULL = nothing gathered */
    bool deferred;
};

struct alert_trail *alert_trail_open(struct alert_room *r)
{
    struct alert_trail *t = calloc(1, sizeof *t);
    if (t)
        t->room = r;
    return t;
}

static void on_durable(void *ctx, int status, const char *error)
{
    struct batch *b = ctx;
    struct alert_room *room = b->room;
    (void)status; /* notify.c has logged it and takes another way */
    (void)error;
    for (size_t i = 0; i < b->n; i++)
        if (b->waiters[i].done)
            b->waiters[i].done(b->waiters[i].ctx);
    free(b);
    alert_room_unref(room);
}

static void write_out(struct alert_trail *t)
{
    struct batch *b = t->open;
    t->open = NULL;
    if (!b)
        return;
    if (b->n == 1)
        service_audit(t->room->service, b->list[0], on_durable, b);
    else
        service_audit_batch(t->room->service, b->list, b->n, false, on_durable, b);
    for (size_t i = 0; i < b->n; i++)
        free(b->list[i]); /* packed by now */
}

static void on_turn(void *ctx)
{
    struct alert_room *r = ctx;
    if (r->trail) {
        r->trail->deferred = false;
        write_out(r->trail);
    }
    alert_room_unref(r);
}

void alert_trail_close(struct alert_trail *t)
{
    if (!t)
        return;
    write_out(t);
    free(t);
}

static char *put(char **at, const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = memcpy(*at, s, n);
    *at += n;
    return copy;
}

/* In one piece of memory. */
static PB(AuditRecord) * copy_of(const PB(AuditRecord) * r, size_t *ret_bytes)
{
    size_t texts = strlen(r->action) + strlen(r->subject) + strlen(r->detail) + 3;
    for (size_t i = 0; i < r->n_fields; i++)
        texts += strlen(r->fields[i]->key) + strlen(r->fields[i]->value) + 2;
    PB(AuditRecord) *x = malloc(sizeof *x + r->n_fields * (sizeof(PB(Label)) + sizeof(PB(Label) *)) + texts);
    if (!x)
        return NULL;
    PB(Label) *labels = (PB(Label) *)(x + 1);
    PB(Label) **list = (PB(Label) **)(labels + r->n_fields);
    char *at = (char *)(list + r->n_fields);
    *x = *r;
    x->action = put(&at, r->action);
    x->subject = put(&at, r->subject);
    x->detail = put(&at, r->detail);
    x->fields = list;
    for (size_t i = 0; i < r->n_fields; i++) {
        list[i] = &labels[i];
        labels[i] = (PB(Label))REDOUBT__V1__LABEL__INIT;
        labels[i].key = put(&at, r->fields[i]->key);
        labels[i].value = put(&at, r->fields[i]->value);
    }
    *ret_bytes = texts + 8 * r->n_fields + 256; /* what surrounds them, and what notify.c adds */
    return x;
}

void alert_trail_add(struct alert_room *r, const PB(AuditRecord) * record, loop_cb done, void *ctx)
{
    struct alert_trail *t = r->trail;
    size_t bytes = 0;
    PB(AuditRecord) *copy = t ? copy_of(record, &bytes) : NULL;
    if (copy && t->open && (t->open->n == BATCH_MAX || t->open->bytes + bytes > BATCH_BYTES))
        write_out(t);
    if (copy && !t->open && (t->open = calloc(1, sizeof *t->open)) != NULL) {
        t->open->room = r;
        alert_room_ref(r);
    }
    if (!copy || !t->open) { /* memory is out, or we are closing: nobody waits for it */
        free(copy);
        if (done)
            done(ctx);
        return;
    }
    copy->at_unix_ms = clock_wall_ms();
    t->open->bytes += bytes;
    t->open->waiters[t->open->n] = (struct waiter){done, ctx};
    t->open->list[t->open->n++] = copy;
    if (!t->deferred) {
        t->deferred = true;
        alert_room_ref(r);
        loop_defer(&r->service->loop, on_turn, r);
    }
}
