/* audit_town.h - redoubt-audit with a real NATS, and a loop that says records to it, hears its alerts, and looks at its files. */
#ifndef REDOUBT_TESTS_AUDIT_TOWN_H
#define REDOUBT_TESTS_AUDIT_TOWN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "../harness.h"
#include "audit/audit_segments.h"
#include "audit/audit_verify.h"
#include "common/bus.h"
#include "common/clock.h"
#include "common/subjects.h"
#include "common/wire.h"
#include <cmocka.h>
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOWN_ALERTS 64

struct town_alert {
    char key[64], detail[600];
    int severity;
    bool resolved;
};
struct town {
    struct harness *h;
    struct harness_proc *nats, *audit;
    char base[300], dir[600], bin[600], conf[600];
    struct loop loop;
    struct bus *bus;
    bool bus_up, closed;
    size_t stored, want_stored, n_dead;
    size_t starts;
    struct town_alert alerts[TOWN_ALERTS];
    size_t n_alerts;
    bool replied;
    enum bus_status reply_status;
    char reply[70000];
    size_t reply_len;
    /* of the last look: */
    struct audit_report report;
    size_t classes[4], ids, late; /* late: numbers of 100 and more */
};

static void town_up(void *ctx)
{
    ((struct town *)ctx)->bus_up = true;
}
static void town_down(void *ctx)
{
    ((struct town *)ctx)->bus_up = false;
}
static void town_closed(void *ctx)
{
    ((struct town *)ctx)->closed = true;
}
static void town_dead(void *ctx, const struct bus_msg *m)
{
    (void)m;
    ((struct town *)ctx)->n_dead++;
}
static void town_alert(void *ctx, const struct bus_msg *m)
{
    struct town *t = ctx;
    PB(Alert) *a = wire_unpack(PB_DESC(alert), m->data, m->len, NULL);
    assert_non_null(a);
    if (t->n_alerts < TOWN_ALERTS) {
        struct town_alert *to = &t->alerts[t->n_alerts++];
        snprintf(to->key, sizeof to->key, "%s", a->dedup_key);
        snprintf(to->detail, sizeof to->detail, "%s", a->detail);
        to->severity = (int)a->severity;
        to->resolved = a->resolved;
    }
    wire_free(a);
}

static inline void town_turn(struct town *t)
{
    static const bool never = false;
    loop_run_until(&t->loop, &never, 10);
}
#define TOWN_UNTIL(t, cond)                                                                                          \
    do {                                                                                                             \
        int64_t end_ms_ = clock_mono_ms() + 3 * HARNESS_WAIT_MS;                                                     \
        while (!(cond)) {                                                                                            \
            if (clock_mono_ms() > end_ms_)                                                                           \
                fail_msg("line %d: waited in vain for: %s", __LINE__, #cond);                                        \
            town_turn(t);                                                                                            \
        }                                                                                                            \
    } while (0)

/* The last alert with that key; NULL if there was none. */
static inline const struct town_alert *town_alerted(const struct town *t, const char *key)
{
    for (size_t i = t->n_alerts; i > 0; i--)
        if (strcmp(t->alerts[i - 1].key, key) == 0)
            return &t->alerts[i - 1];
    return NULL;
}
static inline bool town_raised(const struct town *t, const char *key)
{
    const struct town_alert *a = town_alerted(t, key);
    return a && !a->resolved;
}
static inline bool town_resolved(const struct town *t, const char *key)
{
    const struct town_alert *a = town_alerted(t, key);
    return a && a->resolved;
}

/* `audit` is what stands below that key of the settings, one `key: value` a line. */
static inline void town_configure(struct town *t, const char *audit)
{
    FILE *f = fopen(t->conf, "w");
    assert_non_null(f);
    fprintf(f, "nats: { url: \"%s\" }\ndata_dir: \"%s/data\"\naudit: { checkpoint: 200ms, %s }\n", t->nats->url,
            t->base, audit);
    fclose(f);
}

/* As often as it was begun: before that SIGTERM would end it the short way. */
static inline bool town_started(struct town *t)
{
    char path[600], line[2048];
    size_t said = 0;
    snprintf(path, sizeof path, "%s/audit.log", harness_dir(t->h));
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        said += strstr(line, "event=started") != NULL;
    if (f)
        fclose(f);
    return said == t->starts;
}

static inline void town_start(struct town *t)
{
    t->starts++;
    if (t->audit) {
        harness_start(t->audit);
    } else {
        char program[700];
        snprintf(program, sizeof program, "%s/redoubt-audit", t->bin);
        t->audit = harness_run(t->h, "audit", 0, (const char *const[]){program, "-c", t->conf, NULL});
    }
    TOWN_UNTIL(t, town_started(t));
}

static inline void town_stop(struct town *t)
{
    assert_int_equal(harness_stop(t->audit), 0);
}

/* NATS and the test's own connection; the service is not started. `base`: where its data go; NULL = the harness's directory. */
static inline struct town *town_open(const char *base)
{
    struct town *t = calloc(1, sizeof *t);
    assert_non_null(t);
    assert_true(sodium_init() >= 0);
    t->h = harness_open();
    t->nats = harness_nats(t->h, "nats", NULL);
    snprintf(t->base, sizeof t->base, "%s", base ? base : harness_dir(t->h));
    snprintf(t->dir, sizeof t->dir, "%s/data/audit/0", t->base);
    snprintf(t->conf, sizeof t->conf, "%s/redoubt.yaml", harness_dir(t->h));
    ssize_t n = readlink("/proc/self/exe", t->bin, sizeof t->bin - 8);
    assert_true(n > 0);
    t->bin[n] = 0;
    for (int i = 0; i < 3; i++)
        *strrchr(t->bin, '/') = 0;
    snprintf(t->bin + strlen(t->bin), 8, "/bin");
    assert_int_equal(loop_init(&t->loop), 0);
    struct bus_opts bo = {.url = t->nats->url,
                          .name = "test",
                          .inbox_prefix = "_INBOX_test",
                          .on_up = town_up,
                          .on_down = town_down,
                          .ctx = t};
    t->bus = bus_open(&t->loop, &bo, NULL);
    assert_non_null(t->bus);
    bus_subscribe(t->bus, SUBJECT_DEAD ">", NULL, town_dead, t);
    bus_subscribe(t->bus, SUBJECT_ALERT, NULL, town_alert, t);
    TOWN_UNTIL(t, t->bus_up);
    return t;
}

static inline void town_close(struct town *t)
{
    bus_close(t->bus, 1000, town_closed, t);
    assert_true(loop_run_until(&t->loop, &t->closed, HARNESS_WAIT_MS));
    loop_done(&t->loop);
    harness_close(t->h);
    free(t);
}

/* ---- saying ---- */

static void town_on_stored(void *ctx, const struct bus_stored *r)
{
    assert_int_equal(r->status, BUS_OK);
    ((struct town *)ctx)->stored++;
}

#define TOWN_CONTINUITY REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_CONTINUITY
#define TOWN_STRICT     REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT

static inline void town_say(struct town *t, int audit_class, int i, size_t bytes)
{
    char id[32], detail[4001];
    PB(AuditRecord) r = PB_INIT(AUDIT_RECORD);
    snprintf(id, sizeof id, "record-%d", i);
    memset(detail, 'x', bytes < sizeof detail ? bytes : sizeof detail - 1);
    detail[bytes < sizeof detail ? bytes : sizeof detail - 1] = 0;
    r.id = id;
    r.at_unix_ms = clock_wall_ms();
    r.service = (char *)"test";
    r.audit_class = (Redoubt__V1__AuditClass)audit_class;
    r.action = (char *)"test.made";
    r.detail = detail;
    size_t len;
    void *data = wire_pack(&r, &len, NULL);
    assert_non_null(data);
    struct bus_out o = {.subject = SUBJECT_AUDIT "test", .id = id, .type = wire_type(&r), .data = data, .len = len};
    t->want_stored++;
    bus_store(t->bus, &o, 0, town_on_stored, t);
    free(data);
}

static inline void town_say_many(struct town *t, int first, int n, size_t bytes)
{
    for (int i = 0; i < n; i++)
        town_say(t, TOWN_CONTINUITY, first + i, bytes);
    TOWN_UNTIL(t, t->stored == t->want_stored);
}

/* ---- asking ---- */

static void town_on_reply(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct town *t = ctx;
    t->replied = true;
    t->reply_status = st;
    t->reply_len = 0;
    t->reply[0] = 0;
    PB(CommandReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL) : NULL;
    if (r) {
        t->reply_len = r->payload.len;
        assert_true(t->reply_len < sizeof t->reply);
        if (t->reply_len > 0)
            memcpy(t->reply, r->payload.data, t->reply_len);
        t->reply[t->reply_len] = 0;
        wire_free(r);
    }
}

/* The status as text; "" while nobody answers. */
static inline const char *town_status(struct town *t)
{
    struct bus_out o = {.subject = SUBJECT_CMD "audit.status", .data = "", .len = 0};
    t->replied = false;
    bus_request(t->bus, &o, 2000, town_on_reply, t);
    TOWN_UNTIL(t, t->replied);
    return t->reply;
}
static inline bool town_status_has(struct town *t, const char *text)
{
    return strstr(town_status(t), text) != NULL;
}

/* ---- looking ---- */

static void town_visit(void *ctx, const struct audit_record *rec, const char *file, uint64_t offset)
{
    struct town *t = ctx;
    (void)file;
    (void)offset;
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), rec->stored, rec->len, NULL);
    assert_non_null(r);
    t->classes[r->audit_class & 3]++;
    bool own = strncmp(r->id, "record-", 7) == 0;
    t->ids += own;
    t->late += own && atoi(r->id + 7) >= 100;
    wire_free(r);
}

/* Of the trail in one directory or two: how many of the test's own records are there. -1: problems. */
static inline int town_look2(struct town *t, const char *dir, const char *second)
{
    struct audit_verify_opts v = {.dirs = {dir, second}, .n_dirs = second ? 2 : 1, .visit = town_visit, .ctx = t};
    struct err e = {""};
    memset(t->classes, 0, sizeof t->classes);
    t->ids = t->late = 0;
    return audit_verify_trail(&v, &t->report, &e) == 0 ? (int)t->ids : -1;
}
static inline int town_look(struct town *t, const char *dir)
{
    return access(dir, R_OK) ? -1 : town_look2(t, dir, NULL);
}
/* Waits until so many are there, and says what is there if they do not come. */
static inline void town_wait_ids_at(struct town *t, const char *dir, int ids, int line)
{
    int64_t end_ms = clock_mono_ms() + 3 * HARNESS_WAIT_MS;
    int found;
    while ((found = town_look(t, dir)) != ids) {
        if (clock_mono_ms() > end_ms) {
            const char *what = t->report.n_problems ? t->report.problems[0].what : "no problem";
            fail_msg("line %d: %d records instead of %d: %s; %s", line, found, ids, what, town_status(t));
        }
        town_turn(t);
    }
}
#define TOWN_IDS(t, dir, ids) town_wait_ids_at(t, dir, ids, __LINE__)
static inline void town_whole(struct town *t, const char *dir, int ids)
{
    int found = town_look(t, dir);
    if (found < 0)
        fail_msg("%s: %s at byte %" PRIu64 ": %s", dir, t->report.problems[0].file, t->report.problems[0].offset,
                 t->report.problems[0].what);
    assert_int_equal(found, ids);
}

/* Several writes, so that there are several segments. */
static inline void town_say_in_steps(struct town *t, int first, int n, size_t bytes)
{
    for (int i = 0; i < n; i += 50) {
        town_say_many(t, first + i, 50, bytes);
        TOWN_IDS(t, t->dir, first + i + 50);
    }
}

static inline void town_flip(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ 1, f);
    fclose(f);
}

/* Runs a command of the harness's PATH; its exit status. */
__attribute__((format(printf, 1, 2))) static inline int town_shell(const char *fmt, ...)
{
    char command[4096];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(command, sizeof command, fmt, ap);
    va_end(ap);
    int rc = system(command);
    return WIFEXITED(rc) ? WEXITSTATUS(rc) : -1;
}

/* Of the chain that is in the trail's directory now. */
static inline const char *town_chain(const struct town *t, char hex[static 2 * AUDIT_CHAIN_BYTES + 1])
{
    size_t n;
    struct audit_checkpoint c;
    unsigned char *text = audit_read_file(t->dir, AUDIT_CHECKPOINT_FILE, AUDIT_NOTE_MAX, &n, NULL);
    assert_non_null(text);
    assert_int_equal(audit_checkpoint_parse((char *)text, n, &c, NULL), 0);
    free(text);
    return sodium_bin2hex(hex, 2 * AUDIT_CHAIN_BYTES + 1, c.chain, sizeof c.chain);
}

/* Name of the one directory in `dir`. */
static inline void town_only(const char *dir, char *to, size_t size)
{
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *f; d && (f = readdir(d));) {
        if (f->d_name[0] == '.')
            continue;
        n++;
        snprintf(to, size, "%s/%s", dir, f->d_name);
    }
    if (d)
        closedir(d);
    assert_int_equal(n, 1);
}

static inline int town_follow(struct town *t, const char *more)
{
    int code = town_shell("%s/redoubt audit follow --nats %s --to %s/to --once %s >%s/said 2>&1", t->bin,
                          t->nats->url, t->base, more, t->base);
    return code;
}

static inline bool town_said(const struct town *t, const char *text)
{
    return town_shell("grep -q -e '%s' %s/said", text, t->base) == 0;
}

/* Until the copy has so many: what the bus knew of the trail may have been less. */
#define TOWN_FOLLOW_UNTIL(t, more, copy, n)                                                                          \
    TOWN_UNTIL(t, town_follow(t, more) == 0 && town_look(t, copy) == (n) && (t)->report.checkpoint.size == (n))

#endif
