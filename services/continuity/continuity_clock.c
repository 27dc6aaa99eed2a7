/* continuity_clock.c - continuity time on disk and on the bus: its anchors.
 *
 * Each replica has an anchor in its own directory, and all of a host share another: so that a replica that starts for the first time goes by what the others know. */
#include "common/clock.h"
#include "common/log.h"
#include "continuity/continuity_impl.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ANCHOR_FILE  "clock"
#define ANCHOR_TEXT  200
#define TROUBLE_MS   60000
#define PLAUSIBLE_MS INT64_C(253402300799999) /* the end of the year 9999: later is damage */
#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

static int64_t boot_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void read_boot_id(char *id, size_t size)
{
    FILE *f = fopen(BOOT_ID_FILE, "re");
    id[0] = '\0';
    if (f && fgets(id, (int)size, f))
        id[strcspn(id, "\n")] = '\0';
    if (f)
        fclose(f);
}

/* ---- on disk ---- */

static void path_of(char *path, size_t size, const char *dir, const char *end)
{
    snprintf(path, size, "%s/" ANCHOR_FILE "%s", dir, end);
}

/* What cannot be read is no anchor: the other one, the bus and the wall clock remain. */
static struct time_anchor read_anchor(const char *dir)
{
    char path[REPLICA_PATH + 32], line[ANCHOR_TEXT] = "";
    struct time_anchor a = {0};
    path_of(path, sizeof path, dir, "");
    FILE *f = fopen(path, "re");
    if (!f)
        return a;
    int used = 0;
    bool ok = fgets(line, sizeof line, f) &&
              sscanf(line, "%" SCNd64 " %" SCNd64 " %" SCNd64 " %39[0-9a-zA-Z-]%n", &a.time_ms, &a.boot_ms,
                     &a.wall_ms, a.boot_id, &used) == 4 &&
              strcmp(line + used, " .\n") == 0 && a.time_ms > 0 && a.time_ms <= PLAUSIBLE_MS && a.wall_ms >= 0 &&
              a.wall_ms <= PLAUSIBLE_MS && a.boot_ms >= 0;
    fclose(f);
    if (ok)
        return a;
    log_warn("the anchor of the clock cannot be read", F_STR("file", path),
             F_STR("next", "going by the other anchors and the wall clock"));
    return (struct time_anchor){0};
}

static bool write_anchor(const char *dir, const struct time_anchor *a, const char *tmp)
{
    char path[REPLICA_PATH + 32], next[REPLICA_PATH + 32], line[ANCHOR_TEXT];
    path_of(path, sizeof path, dir, "");
    path_of(next, sizeof next, dir, tmp);
    int n = snprintf(line, sizeof line, "%" PRId64 " %" PRId64 " %" PRId64 " %s .\n", a->time_ms, a->boot_ms,
                     a->wall_ms, a->boot_id);
    int fd = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool ok = write(fd, line, (size_t)n) == n && fdatasync(fd) == 0;
    close(fd);
    return ok && rename(next, path) == 0;
}

void clock_keep(struct continuity *c)
{
    struct time_anchor a = continuity_time_anchor(&c->time, boot_ms(), clock_wall_ms());
    char tmp[32];
    snprintf(tmp, sizeof tmp, ".%d", c->s->replica.index); /* replicas share one of the two directories */
    bool own = write_anchor(c->s->replica.dir, &a, tmp), all = write_anchor(c->dir, &a, tmp);
    c->anchored_mono_ms = clock_mono_ms();
    if ((!own || !all) && log_allowed(&c->anchor_trouble, c->anchored_mono_ms, TROUBLE_MS, NULL))
        log_error("the anchor of the clock cannot be written", F_STR("dir", own ? c->dir : c->s->replica.dir),
                  F_STR("next", "is the disk full? after a restart of the host the clocks go by the bus"));
}

/* ---- going ---- */

void clock_start(struct continuity *c)
{
    struct time_anchor own = read_anchor(c->s->replica.dir), all = read_anchor(c->dir), none = {0};
    read_boot_id(c->boot_id, sizeof c->boot_id);
    /* Of this boot is exact; else whichever is further. */
    bool own_now = own.time_ms && strcmp(own.boot_id, c->boot_id) == 0;
    bool all_now = all.time_ms && strcmp(all.boot_id, c->boot_id) == 0;
    int64_t own_at = own.time_ms - (own_now ? own.boot_ms : 0), all_at = all.time_ms - (all_now ? all.boot_ms : 0);
    const struct time_anchor *best = own_now == all_now ? (all_at > own_at ? &all : &own) : own_now ? &own : &all;
    continuity_time_start(&c->time, best, &none, c->boot_id, boot_ms(), clock_wall_ms());
    int64_t ahead = continuity_now_ms(c) - clock_wall_ms();
    if (ahead > 60000 || ahead < -60000)
        log_warn("the wall clock has jumped: the clocks of incidents go on as they were",
                 F_INT("ahead_of_the_wall_clock_ms", ahead));
    clock_keep(c);
}

int64_t continuity_now_ms(const struct continuity *c)
{
    return continuity_time_at(&c->time, boot_ms());
}

int64_t room_clock_offset(const struct continuity *c)
{
    return continuity_now_ms(c) - clock_wall_ms();
}

/* ---- on the bus ---- */

void clock_seen(struct service *s, const void *message, const struct bus_msg *m)
{
    struct continuity *c = s->state;
    const PB(ContinuityTime) *t = message;
    if (t->time_unix_ms <= 0 || strlen(t->boot_id) >= sizeof((struct time_anchor *)0)->boot_id) {
        service_bad_input(s, "continuity time", m, "it says no time, or its boot_id is too long");
        return;
    }
    if (strcmp(t->instance, s->instance) == 0 && c->leads)
        return; /* our own */
    struct time_anchor a = {.time_ms = t->time_unix_ms, .boot_ms = t->boot_ms, .wall_ms = t->wall_unix_ms};
    snprintf(a.boot_id, sizeof a.boot_id, "%s", t->boot_id);
    int64_t before = continuity_now_ms(c);
    continuity_time_follow(&c->time, &a, boot_ms());
    int64_t ahead = continuity_now_ms(c) - before;
    if (ahead > lead_beat_ms(c))
        log_warn("the clock of whoever led was further: going on from there", F_STR("instance", t->instance),
                 F_INT("by_ms", ahead));
    if (!m->stream) /* live, not replayed */
        lead_heard(c, t->instance, t->fence);
    else if (t->fence > c->fence_seen)
        c->fence_seen = t->fence;
}

static void ignore(void *ctx, const struct bus_stored *r)
{
    (void)ctx; /* the next one follows soon */
    (void)r;
}

void clock_say(struct continuity *c)
{
    struct time_anchor a = continuity_time_anchor(&c->time, boot_ms(), clock_wall_ms());
    char id[48];
    size_t len;
    struct err e;
    PB(ContinuityTime) t = PB_INIT(CONTINUITY_TIME);
    t.time_unix_ms = a.time_ms;
    t.boot_id = a.boot_id;
    t.boot_ms = a.boot_ms;
    t.wall_unix_ms = a.wall_ms;
    t.instance = (char *)c->s->instance;
    t.fence = c->fence;
    c->beat_mono_ms = clock_mono_ms();
    void *data = wire_pack(&t, &len, &e);
    if (!data) {
        log_error("own clock cannot be said", F_STR("why", e.text));
        return;
    }
    struct bus_out o = {.subject = SUBJECT_CONTINUITY_TIME,
                        .id = service_new_id(c->s, id),
                        .type = wire_type(&t),
                        .data = data,
                        .len = len};
    bus_store(c->s->bus, &o, lead_beat_ms(c), ignore, NULL);
    free(data);
}
