/* audit_intake.c - takes records off the AUDIT stream and acknowledges them when they are durable in the trail. */
#include "audit/audit_impl.h"
#include "audit/audit_segments.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/subjects.h"
#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#define RETRY_MS      1000
#define PUT_OFF_MS    5000
#define LOOK_MS       1000       /* whether there are others, while nothing comes */
#define OTHERS_MS     2000       /* a record that another has not signed for is asked for again after that */
#define OTHERS_MAX_MS 60000      /* and a checkpoint's time */
#define NEVER_DEAD    UINT64_MAX /* that the disk does not take it is no fault of a record */

METRIC_DEFINE(appended, METRIC_COUNTER, "redoubt_audit_appended_total", "Records that are durable in the trail.");
METRIC_DEFINE(duplicates, METRIC_COUNTER, "redoubt_audit_duplicates_total",
              "Records that were in the trail already.");
METRIC_DEFINE(gaps, METRIC_COUNTER, "redoubt_audit_gaps_total",
              "Gap records: what came and could not be read as a record.");
METRIC_DEFINE(failures, METRIC_COUNTER, "redoubt_audit_write_failures_total",
              "Records that could not be made durable at once.");
METRIC_DEFINE(put_off, METRIC_COUNTER, "redoubt_audit_put_off_total",
              "Times that a message was left on the stream, since the disk has room for strict records only.");
METRIC_DEFINE(
    waited, METRIC_COUNTER, "redoubt_audit_waited_total",
    "Times that a message was left on the stream, since another replica's trail holds it without a checkpoint yet.");
METRIC_DEFINE(written_after_ms, METRIC_GAUGE, "redoubt_audit_written_after_ms",
              "From the newest record's time of writing to its place in the trail.");
METRIC_DEFINE(chain_size, METRIC_GAUGE, "redoubt_audit_chain_records", "Records in the chain.");

/* One message between the stream and the disk: a record, or a batch of them. */
struct pending {
    struct audit *a;
    struct bus_hold *hold; /* NULL: read where it stands */
    size_t left;           /* of its records that are not durable yet */
    bool
        failed; /* one of them could not be made durable: the message comes again, and those that were are known by their ids */
    bool dead; /* goes to the dead letters, with its trace in the trail */
    char why[ERR_TEXT_MAX];
};
/* A message that waits until it is known what the other replicas' trails hold. */
struct asked {
    struct asked *next;
    struct bus_hold *hold; /* NULL: a strict record that was read where it stands */
    struct bus_msg m;      /* what of it is read below; texts and data are copies */
    char bytes[];
};
struct audit_asking {
    uv_work_t work;
    struct audit *a;
    struct loop_timer timer;
    bool under_way, known; /* known: who else is there */
    struct asked *first, **last;
    struct asked **mark; /* of those that are asked for: what comes behind it waits for the next time */
};
struct audit_entry {
    struct pending *p;
    int64_t at_unix_ms;
    char id[80];
    UT_hash_handle hh;
};

/* Said when no disk takes it: until then the room's own alert tells of each step. */
static void tell_failing(struct audit *a, const char *why)
{
    if (a->failing == (why != NULL) || (why && a->room.step != AUDIT_ROOM_FULL))
        return;
    a->failing = why != NULL;
    char detail[ERR_TEXT_MAX + 64];
    snprintf(detail, sizeof detail, "%s: %s", a->s->replica.dir, why ? why : "records are durable again");
    audit_tell(a, "audit/trail", true, !why,
               why ? "The audit trail cannot be written" : "The audit trail is written again", detail);
}

static void look_for_lost(struct audit *a)
{
    struct audit_log_status st;
    audit_log_status(a->log, &st);
    if (st.lost_segments == a->lost)
        return;
    a->lost = st.lost_segments;
    log_error("a segment of the audit trail was deleted; the chain goes on in a new one",
              F_STR("dir", a->s->replica.dir), F_INT("segments", st.lost_segments));
    audit_tell(a, "audit/tampered", true, false, "A segment of the audit trail was deleted while it was written",
               a->s->replica.dir);
}

static void let_go(struct pending *p)
{
    if (!p->hold)
        p->a->past_failed |= p->failed; /* its message comes by itself, some time */
    else if (p->failed)
        bus_nak(p->hold, RETRY_MS, p->why);
    else if (p->dead)
        bus_dead(p->hold, p->why);
    else
        bus_ack(p->hold);
    free(p);
}

static void on_refused(struct audit *a, const char *error)
{
    struct audit_log_status st;
    audit_log_status(a->log, &st);
    struct audit_room_event ev = {.kind = AUDIT_ROOM_REFUSED, .volume = st.in_second ? AUDIT_SECOND : AUDIT_FIRST};
    metric_add(&failures, 1);
    audit_room_moved(a, &ev, error);
    tell_failing(a, error);
}

static void on_appended(void *ctx, uint64_t seq, const char *error)
{
    struct audit_entry *x = ctx;
    struct pending *p = x->p;
    struct audit *a = p->a;
    if (seq == 0) {
        on_refused(a, error);
        p->failed = true;
        snprintf(p->why, sizeof p->why, "%s", error);
    } else {
        tell_failing(a, NULL);
        look_for_lost(a);
        audit_seen_add(&a->seen, x->id);
        metric_add(&appended, 1);
        metric_set(&chain_size, (int64_t)seq);
        if (x->at_unix_ms)
            metric_set(&written_after_ms, clock_wall_ms() - x->at_unix_ms);
    }
    HASH_DEL(a->flying, x);
    free(x);
    if (--p->left == 0)
        let_go(p);
}

/* False: no memory for it. The bytes are copied. */
static bool append(struct pending *p, const char *id, int64_t at_unix_ms, const void *data, size_t len)
{
    struct audit_entry *x = calloc(1, sizeof *x);
    if (!x)
        return false;
    x->p = p;
    x->at_unix_ms = at_unix_ms;
    snprintf(x->id, sizeof x->id, "%s", id);
    p->left++;
    HASH_ADD_STR(p->a->flying, id, x);
    audit_log_append(p->a->log, data, len, on_appended, x);
    return true;
}

/* What cannot be read as a record leaves a gap record: that something came, from where, and what its bytes hash to. */
static void *make_gap(struct service *s, const struct bus_msg *m, const char *id, const char *why, size_t *ret_len)
{
    unsigned char hash[32];
    char hex[65], bytes[24], detail[ERR_TEXT_MAX + 32];
    crypto_generichash(hash, sizeof hash, m->data, m->len, NULL, 0);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    snprintf(bytes, sizeof bytes, "%zu", m->len);
    snprintf(detail, sizeof detail, "a message is no audit record: %s", why);
    PB(Label) labels[] = {REDOUBT__V1__LABEL__INIT, REDOUBT__V1__LABEL__INIT, REDOUBT__V1__LABEL__INIT};
    PB(Label) * fields[] = {&labels[0], &labels[1], &labels[2]};
    labels[0].key = (char *)"origin";
    labels[0].value = (char *)m->subject;
    labels[1].key = (char *)"bytes";
    labels[1].value = bytes;
    labels[2].key = (char *)"blake2b256";
    labels[2].value = hex;
    PB(AuditRecord) r = REDOUBT__V1__AUDIT_RECORD__INIT;
    r.id = (char *)id;
    r.at_unix_ms = clock_wall_ms();
    r.at_mono_ns = clock_mono_ns();
    r.service = (char *)s->desc->name;
    r.instance = (char *)s->instance;
    r.audit_class = REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_GAP;
    r.action = (char *)"audit.unreadable";
    r.actor = (char *)s->desc->name;
    r.outcome = REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED;
    r.detail = detail;
    r.fields = fields;
    r.n_fields = sizeof fields / sizeof *fields;
    struct err e;
    void *data = wire_pack(&r, ret_len, &e);
    if (!data)
        log_error("own gap record is not valid", F_STR("why", e.text));
    return data;
}

static void append_gap(struct pending *p, const struct bus_msg *m, const char *id)
{
    size_t len;
    void *gap = make_gap(p->a->s, m, id, p->why, &len);
    metric_add(&gaps, gap != NULL);
    p->dead = true;
    if (gap && !append(p, id, 0, gap, len))
        p->failed = true;
    free(gap);
}

/* While they are read nothing can be asked. */
static enum audit_kin_has others_have(const struct audit *a, const char *id)
{
    return a->asking->under_way ? AUDIT_KIN_NONE : audit_kin_find(a->kin, id);
}

static void append_record(struct pending *p, const PB(AuditRecord) * r, const void *data, size_t len)
{
    struct audit_entry *same;
    HASH_FIND_STR(p->a->flying, r->id, same);
    if (same || audit_seen_has(&p->a->seen, r->id) || /* if that one fails, its own message comes again */
        others_have(p->a, r->id) == AUDIT_KIN_HAS) {
        metric_add(&duplicates, 1);
    } else if (!append(p, r->id, r->at_unix_ms, data, len)) {
        p->failed = true;
        snprintf(p->why, sizeof p->why, "out of memory");
    }
}

/* Each record of a batch is one of the trail, in their order; some may be there already. */
static void append_batch(struct pending *p, const PB(AuditBatch) * b)
{
    for (size_t i = 0; i < b->n_records && !p->failed; i++) {
        struct err e = {"out of memory"};
        size_t len;
        void *data = wire_pack(b->records[i], &len, &e);
        if (data)
            append_record(p, b->records[i], data, len);
        p->failed = p->failed || !data;
        if (!data)
            snprintf(p->why, sizeof p->why, "%s", e.text);
        free(data);
    }
}

bool audit_intake_waits(const PB(AuditRecord) * r)
{
    return r->audit_class != REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT &&
           r->audit_class != REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_GAP;
}

/* While there is room for strict records only: a message without any stays on the stream. */
static bool may_wait(const struct audit *a, bool many, const void *message)
{
    if (!audit_room_rows[a->room.step].strict_only)
        return false;
    if (!many)
        return audit_intake_waits(message);
    const PB(AuditBatch) *b = message;
    for (size_t i = 0; i < b->n_records; i++)
        if (!audit_intake_waits(b->records[i]))
            return false;
    return true;
}

static void take_unreadable(struct pending *p, const struct bus_msg *m, const char *why)
{
    /* The stream's sequence names it: it is the same when the message comes again. */
    char id[80];
    snprintf(id, sizeof id, "unreadable-%" PRIu64, m->stream_seq);
    if (audit_seen_has(&p->a->seen, id) || others_have(p->a, id) == AUDIT_KIN_HAS) {
        metric_add(&duplicates, 1);
        return;
    }
    service_bad_input(p->a->s, "audit record", m, why);
    snprintf(p->why, sizeof p->why, "%s", why);
    append_gap(p, m, id);
}

/* A record that stands in another's trail and is not signed for yet may be taken back by its owner: it is waited for. An owner that is gone has a keeper
 * soon. For ever it is not: better twice in the trails than not at all. */
static bool wait_for_others(const struct audit *a, const struct bus_msg *m, bool many, const void *message)
{
    bool open = false;
    if (!many)
        open = others_have(a, ((const PB(AuditRecord) *)message)->id) == AUDIT_KIN_OPEN;
    const PB(AuditBatch) *b = message;
    for (size_t i = 0; many && i < b->n_records && !open; i++)
        open = others_have(a, b->records[i]->id) == AUDIT_KIN_OPEN;
    int64_t waited_ms = (int64_t)m->deliveries * OTHERS_MS;
    if (open && waited_ms > a->s->settings->audit.checkpoint_ms + OTHERS_MAX_MS) {
        log_warn("a record stands in another replica's trail, and nobody signs for it: it is written here as well",
                 F_INT("stream_seq", m->stream_seq));
        return false;
    }
    return open;
}

static void take(struct audit *a, const struct bus_msg *m, struct bus_hold *h)
{
    struct pending *p = a->phase == AUDIT_RUNS ? calloc(1, sizeof *p) : NULL;
    if (!p) {
        bool draining = a->phase != AUDIT_RUNS;
        bus_nak(h, draining ? 0 : RETRY_MS, draining ? "draining" : "out of memory");
        return;
    }
    if (m->stream_seq > a->top_seq)
        a->top_seq = m->stream_seq;
    *p = (struct pending){.a = a, .hold = h, .left = 1}; /* until all of it is handed over */
    struct err e = {""};
    bool many = m->type && strcmp(m->type, PB_DESC(audit_batch)->name) == 0;
    void *message = wire_unpack(many ? PB_DESC(audit_batch) : PB_DESC(audit_record), m->data, m->len, &e);
    if (!message) {
        take_unreadable(p, m, e.text);
    } else if (wait_for_others(a, m, many, message)) {
        metric_add(&waited, 1);
        bus_nak(h, OTHERS_MS, "it stands in another replica's trail, and is not signed for yet");
        free(p);
        wire_free(message);
        return;
    } else if (may_wait(a, many, message)) {
        a->put_off++;
        metric_add(&put_off, 1);
        bus_nak(h, PUT_OFF_MS, "only strict records are taken");
        free(p);
        wire_free(message);
        audit_past_go(a);
        return;
    } else if (many) {
        append_batch(p, message);
    } else {
        append_record(p, message, m->data, m->len);
    }
    wire_free(message);
    if (--p->left == 0)
        let_go(p);
}

/* What another has, signed for or not yet, needs no second place: its message comes, and is judged then. */
static void take_strict(struct audit *a, const void *data, size_t len)
{
    PB(AuditRecord) *r = a->phase == AUDIT_RUNS ? wire_unpack(PB_DESC(audit_record), data, len, NULL) : NULL;
    struct pending *p = r && others_have(a, r->id) == AUDIT_KIN_NONE ? calloc(1, sizeof *p) : NULL;
    if (p) {
        *p = (struct pending){.a = a, .left = 1};
        append_record(p, r, data, len);
        if (--p->left == 0)
            let_go(p);
    }
    wire_free(r);
}

/* ---- what the others' trails hold ---- */

static void ask(struct audit *a);

static void on_ask(uv_work_t *w)
{
    audit_kin_refresh(((struct audit_asking *)w->data)->a->kin);
}

static void on_asked(uv_work_t *w, int status)
{
    struct audit_asking *k = w->data;
    struct audit *a = k->a;
    /* Only those that came before the others were read. */
    struct asked *list = k->mark == &k->first ? NULL : k->first, *rest = *k->mark;
    *k->mark = NULL;
    k->first = rest;
    if (!rest)
        k->last = &k->first;
    k->under_way = false;
    k->known |= status == 0;
    while (list) {
        struct asked *q = list;
        list = q->next;
        if (q->hold)
            take(a, &q->m, q->hold);
        else
            take_strict(a, q->m.data, q->m.len);
        free(q);
    }
    if (k->first)
        ask(a);
    audit_end_closed(a);
}

static void ask(struct audit *a)
{
    struct audit_asking *k = a->asking;
    if (k->under_way)
        return;
    k->under_way = true;
    k->mark = k->last;
    a->open_ends++;
    int rc = uv_queue_work(&a->s->loop.uv, &k->work, on_ask, on_asked);
    assert(rc == 0 && "uv_queue_work fails only without a work callback");
    (void)rc;
}

static void on_look(void *ctx)
{
    struct audit *a = ctx;
    if (a->phase == AUDIT_RUNS)
        ask(a);
}

static char *copy(char **to, const void *from, size_t len)
{
    char *at = *to;
    if (len)
        memcpy(at, from, len);
    at[len] = 0;
    *to += len + 1;
    return at;
}

/* One replica alone has nobody to ask. */
static bool is_alone(const struct audit *a)
{
    const struct audit_asking *k = a->asking;
    return k->known && !k->under_way && !k->first && audit_kin_count(a->kin) == 0;
}

/* False: no memory for it. */
static bool wait_in_line(struct audit *a, const struct bus_msg *m, struct bus_hold *h)
{
    struct audit_asking *k = a->asking;
    size_t subject = strlen(m->subject), type = m->type ? strlen(m->type) : 0;
    struct asked *q = malloc(sizeof *q + subject + type + m->len + 3);
    if (!q)
        return false;
    *q = (struct asked){.hold = h, .m = {.stream_seq = m->stream_seq, .deliveries = m->deliveries, .len = m->len}};
    char *to = q->bytes;
    q->m.subject = copy(&to, m->subject, subject);
    q->m.type = copy(&to, m->type, type);
    q->m.data = copy(&to, m->data, m->len);
    *k->last = q;
    k->last = &q->next;
    ask(a);
    return true;
}

static void on_record(void *ctx, const struct bus_msg *m, struct bus_hold *h)
{
    struct audit *a = ctx;
    if (a->phase != AUDIT_RUNS || is_alone(a))
        take(a, m, h);
    else if (!wait_in_line(a, m, h))
        bus_nak(h, RETRY_MS, "out of memory");
}

void audit_intake_strict(struct audit *a, const void *data, size_t len)
{
    struct bus_msg m = {.subject = "", .data = data, .len = len};
    if (is_alone(a))
        take_strict(a, data, len);
    else
        (void)wait_in_line(a, &m, NULL); /* its message comes by itself, some time */
}

static bool remember(void *ctx, const struct audit_record *rec)
{
    struct audit *a = ctx;
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), rec->stored, rec->len, NULL);
    if (r)
        audit_seen_add(&a->seen, r->id);
    wire_free(r);
    return false;
}

/* Segments may be small: as many as the memory holds are read, oldest first. */
void audit_intake_remember(struct audit *a)
{
    struct audit_log_status st;
    struct err e = {""};
    const char *dirs[] = {a->s->replica.dir, a->second_dir};
    audit_seen_init(&a->seen);
    audit_log_status(a->log, &st);
    uint64_t from = st.size > AUDIT_SEEN_MIN ? st.size - AUDIT_SEEN_MIN + 1 : 1;
    if (audit_segments_visit(dirs, 2, from, remember, a, &e))
        log_warn("not all ids of the trail's last records are known: some may be in it twice", F_STR("why", e.text));
}

int audit_intake_open(struct audit *a, struct err *e)
{
    struct bus_consumer_opts co = {.stream = STREAM_AUDIT,
                                   .durable = AUDIT_CONSUMER,
                                   .filter = SUBJECT_AUDIT ">",
                                   .max_ack_pending = AUDIT_IN_HAND_MAX,
                                   .dead_after = NEVER_DEAD};
    struct audit_kin_opts ko = {.dir = a->s->replica.dir,
                                .index = a->s->replica.index,
                                .second_root = a->s->settings->audit.second_dir,
                                .instance = a->s->instance};
    struct audit_asking *k = calloc(1, sizeof *k);
    a->kin = audit_kin_open(&ko);
    if (!k || !a->kin) {
        free(k);
        return err_set(e, "out of memory");
    }
    *k = (struct audit_asking){.work.data = k, .a = a, .last = &k->first};
    a->asking = k;
    loop_timer_init(&a->s->loop, &k->timer, on_look, a);
    loop_timer_start(&k->timer, LOOK_MS, LOOK_MS);
    ask(a);
    a->consumer = bus_consume(a->s->bus, &co, on_record, a);
    return a->consumer ? 0 : err_set(e, "cannot consume " STREAM_AUDIT);
}

void audit_intake_end(struct audit *a)
{
    struct audit_asking *k = a->asking;
    if (!k)
        return;
    a->open_ends++;
    loop_timer_stop(&k->timer);
    loop_timer_close(&k->timer, audit_end_closed);
    /* What is asked about comes back by on_asked, and goes back to the stream. */
}

void audit_intake_close(struct audit *a)
{
    struct audit_asking *k = a->asking;
    if (k && k->under_way) /* its thread hangs in a disk, and still has the memory */
        return;
    while (k && k->first) {
        struct asked *q = k->first;
        k->first = q->next;
        free(q);
    }
    free(k);
    audit_kin_close(a->kin);
    a->asking = NULL;
    a->kin = NULL;
}
