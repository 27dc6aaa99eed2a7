/* audit_past.c - strict records behind those that wait. A consumer gives out no more than a limit that is not acknowledged: when the disk has
 * room for strict records only, the others may fill that, and strict ones would never come. They are read where they stand. */
#include "audit/audit_impl.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/subjects.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define READ_MS       3000
#define WAIT_MS       1000 /* at the stream's end, and after an error */
/* So many are put off before it begins: with fewer the consumer brings everything by itself. */
#define PUT_OFF_LEAST (AUDIT_IN_HAND_MAX / 2)

METRIC_DEFINE(read_past, METRIC_COUNTER, "redoubt_audit_read_past_total",
              "Strict records that were read where they stand, behind others that wait.");

struct audit_past {
    struct audit *a;
    struct loop_timer timer;
    uint64_t next; /* sequence of the stream */
    bool asking, ended;
    int lock_fd; /* of replicas on one volume one at a time reads: two would write the same */
};

static void read_next(void *ctx);

static void free_past(void *ctx)
{
    struct audit_past *p = ctx;
    if (p->lock_fd >= 0)
        close(p->lock_fd);
    free(p);
}

/* False: another one reads. Where no lock can be had, as on a disk that takes no name any more, it is read all the same. */
static bool lock(const struct audit *a, int *ret_fd)
{
    char path[REPLICA_PATH + 32];
    snprintf(path, sizeof path, "%s/../past.lock", a->s->replica.dir);
    *ret_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*ret_fd < 0 || flock(*ret_fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return true;
    close(*ret_fd);
    return false;
}

static void end_if_idle(struct audit_past *p)
{
    if (p->ended && !p->asking)
        loop_timer_close(&p->timer, free_past);
}

static void take(struct audit *a, const struct bus_msg *m)
{
    bool many = m->type && strcmp(m->type, PB_DESC(audit_batch)->name) == 0;
    void *message = wire_unpack(many ? PB_DESC(audit_batch) : PB_DESC(audit_record), m->data, m->len, NULL);
    if (!message)
        return; /* its gap is written when it comes */
    const PB(AuditBatch) *b = message;
    for (size_t i = 0; many && i < b->n_records; i++) {
        size_t len;
        void *data = audit_intake_waits(b->records[i]) ? NULL : wire_pack(b->records[i], &len, NULL);
        if (data) {
            metric_add(&read_past, 1);
            audit_intake_strict(a, data, len);
        }
        free(data);
    }
    if (!many && !audit_intake_waits(message)) {
        metric_add(&read_past, 1);
        audit_intake_strict(a, m->data, m->len);
    }
    wire_free(message);
}

static void on_message(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct audit_past *p = ctx;
    struct audit *a = p->a;
    p->asking = false;
    if (p->ended) {
        end_if_idle(p);
        return;
    }
    if (st == BUS_OK && m) {
        p->next = m->stream_seq + 1;
        if (a->phase == AUDIT_RUNS)
            take(a, m);
        read_next(p);
    } else {
        loop_timer_start(&p->timer, WAIT_MS, 0);
    }
}

static void read_next(void *ctx)
{
    struct audit_past *p = ctx;
    struct audit *a = p->a;
    if (a->phase != AUDIT_RUNS || !audit_room_rows[a->room.step].strict_only) {
        a->put_off = 0;
        audit_past_end(a);
        return;
    }
    if (a->past_failed) {
        a->past_failed = false;
        p->next = a->top_seq + 1;
        loop_timer_start(&p->timer, WAIT_MS, 0);
        return;
    }
    p->asking = true;
    bus_next(a->s->bus, STREAM_AUDIT, SUBJECT_AUDIT ">", p->next, READ_MS, on_message, p);
}

void audit_past_go(struct audit *a)
{
    if (a->past || a->put_off < PUT_OFF_LEAST)
        return;
    int fd;
    struct audit_past *p = lock(a, &fd) ? calloc(1, sizeof *p) : NULL;
    if (!p)
        return; /* the next one that is put off tries again */
    *p = (struct audit_past){.a = a, .next = a->top_seq + 1, .lock_fd = fd};
    loop_timer_init(&a->s->loop, &p->timer, read_next, p);
    a->past = p;
    log_info("strict records are read past those that wait", F_INT("from", p->next));
    loop_timer_start(&p->timer, 0, 0);
}

void audit_past_end(struct audit *a)
{
    struct audit_past *p = a->past;
    if (!p)
        return;
    a->past = NULL;
    p->ended = true;
    loop_timer_stop(&p->timer);
    end_if_idle(p);
}
