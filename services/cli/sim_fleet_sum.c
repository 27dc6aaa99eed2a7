/* sim_fleet_sum.c - the simulated fleet in figures. */
#include "cli/sim_fleet.h"
#include "common/clock.h"
#include <stdlib.h>
#include <string.h>

void fleet_sample(struct fleet *f, int64_t ms)
{
    struct fleet_marked *m = &f->marked;
    if (m->n == m->cap && m->cap < FLEET_SAMPLES_MAX) {
        size_t cap = m->cap ? m->cap * 2 : 4096;
        cap = cap < FLEET_SAMPLES_MAX ? cap : FLEET_SAMPLES_MAX;
        uint32_t *grown = realloc(m->ms, cap * sizeof *grown);
        if (!grown)
            return;
        m->ms = grown;
        m->cap = cap;
    }
    m->ms[m->next] = ms < 0 ? 0 : ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
    m->next = (m->next + 1) % FLEET_SAMPLES_MAX;
    m->n += m->n < m->cap;
}

void fleet_mark(struct fleet *f)
{
    uint32_t *ms = f->marked.ms;
    size_t cap = f->marked.cap;
    f->marked = (struct fleet_marked){.at_unix_ms = clock_wall_ms(), .ms = ms, .cap = cap};
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static json_t *times(const struct fleet_marked *m)
{
    uint32_t *sorted = m->n ? malloc(m->n * sizeof *sorted) : NULL;
    json_int_t p50 = 0, p99 = 0, max = 0;
    if (sorted) {
        memcpy(sorted, m->ms, m->n * sizeof *sorted);
        qsort(sorted, m->n, sizeof *sorted, by_size);
        p50 = sorted[(m->n - 1) / 2];
        p99 = sorted[(m->n - 1) * 99 / 100];
        max = sorted[m->n - 1];
    }
    free(sorted);
    return json_pack("{s:I, s:I, s:I, s:I}", "n", (json_int_t)m->n, "p50", p50, "p99", p99, "max", max);
}

void fleet_print(struct fleet *f, const char *event)
{
    size_t postures[REDOUBT_FROZEN + 1] = {0}, undirected = 0, acked = 0;
    for (size_t i = 0; i < f->n; i++) {
        const struct fleet_agent *a = &f->agents[i];
        postures[a->posture]++;
        undirected += a->epoch == 0;
        acked += a->epoch > 0 && a->acked >= a->epoch;
    }
    json_t *by_posture = json_object(), *actions = json_object();
    for (int p = REDOUBT_NORMAL; p <= REDOUBT_FROZEN; p++)
        if (postures[p])
            json_object_set_new(by_posture, wire_enum_name(&redoubt__v1__posture__descriptor, p),
                                json_integer((json_int_t)postures[p]));
    for (int i = REDOUBT_ACT_FORWARDED; i <= REDOUBT_ACT_UNKNOWN; i++)
        json_object_set_new(actions, redoubt_acted_text((enum redoubt_acted)i),
                            json_integer((json_int_t)f->ended[i]));
    json_object_set_new(actions, "asked", json_integer((json_int_t)f->acts));
    json_object_set_new(actions, "open", json_integer((json_int_t)f->deeds_open));
    json_object_set_new(actions, "not_taken", json_integer((json_int_t)f->not_taken));
    json_object_set_new(actions, "refused_here", json_integer((json_int_t)f->refused_here));
    json_object_set_new(actions, "shed", json_integer((json_int_t)f->shed));
    const struct fleet_marked *m = &f->marked;
    json_t *since =
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "marked_unix_ms", (json_int_t)m->at_unix_ms, "directives",
                  (json_int_t)m->given, "repeats", (json_int_t)m->repeats, "old", (json_int_t)m->old, "bad",
                  (json_int_t)m->bad, "acks", (json_int_t)m->acks, "ack_ms", times(m));
    char now[CLOCK_TEXT_MAX];
    json_t *line = json_pack("{s:s, s:s, s:I, s:b, s:b, s:o, s:I, s:I, s:I, s:I, s:o, s:o}", "event", event, "at",
                             clock_text(clock_wall_ms(), now), "agents", (json_int_t)f->n, "connected",
                             f->bus && bus_up(f->bus), "synced", f->synced, "postures", by_posture, "undirected",
                             (json_int_t)undirected, "acked", (json_int_t)acked, "heartbeats", (json_int_t)f->beats,
                             "reports", (json_int_t)f->reports, "actions", actions, "since_mark", since);
    json_dumpf(line, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(line);
}
