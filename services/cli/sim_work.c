/* sim_work.c - what the simulated agent does besides asking its LLM: acts through the guard, monitors, restarts. */
#include "cli/sim_work.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define RESTARTS     "REDOUBT_SIM_RESTARTS" /* environment: tells the new process that it is one */
#define MEMORY_LIMIT ((uint64_t)192 << 20)  /* more than it needs: `--misbehave memory` holds 256 MiB */
#define ARGUMENTS    128

/* ---- actions ---- */

static void on_acted(void *ctx, const redoubt_result *result)
{
    struct sim_work *w = ctx;
    atomic_fetch_add(&w->ended[result->result], 1);
    atomic_fetch_add(&w->over, 1);
    bool news = (int)result->result != w->last || (int)result->refusal != w->last_refusal;
    w->last = (int)result->result;
    w->last_refusal = (int)result->refusal;
    if (news || w->verbose)
        w->tell(w->ctx, json_pack("{s:s, s:s, s:s, s:s, s:I, s:i, s:s}", "event", "action", "key",
                                  result->idempotency_key, "result", redoubt_acted_text(result->result), "refusal",
                                  redoubt_refusal_text(result->refusal), "epoch", (json_int_t)result->epoch, "status",
                                  (int)result->status_code, "detail", result->detail));
}

void sim_work_act(struct sim_work *w, redoubt *r)
{
    char ip[32];
    uint64_t n = w->n++;
    snprintf(ip, sizeof ip, "198.51.%u.%u", (unsigned)(n >> 8 & 255), (unsigned)(n & 255));
    const redoubt_parameter parameters[] = {{"ip", ip}};
    const redoubt_action a = {
        .action = w->action, .parameters = parameters, .n_parameters = 1, .timeout_ms = w->timeout_ms};
    if (redoubt_act(r, &a, on_acted, w) == 0)
        atomic_fetch_add(&w->asked, 1);
    else
        atomic_fetch_add(&w->not_taken, 1);
}

json_t *sim_work_sums(struct sim_work *w)
{
    json_t *j = json_pack("{s:I, s:I}", "asked", (json_int_t)atomic_load(&w->asked), "not_taken",
                          (json_int_t)atomic_load(&w->not_taken));
    for (int i = REDOUBT_ACT_FORWARDED; j && i <= REDOUBT_ACT_UNKNOWN; i++)
        json_object_set_new(j, redoubt_acted_text((enum redoubt_acted)i),
                            json_integer((json_int_t)atomic_load(&w->ended[i])));
    return j;
}

json_t *sim_work_news(struct sim_work *w)
{
    uint64_t over = atomic_load(&w->over);
    if (over == w->shown)
        return NULL;
    w->shown = over;
    return sim_work_sums(w);
}

/* ---- monitoring ---- */

static uint64_t memory_bytes(void)
{
    unsigned long long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%llu %llu", &size, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void sim_work_monitor(struct sim_work *w, redoubt_monitor *m)
{
    char detail[96];
    struct statvfs disk;
    uint64_t memory = memory_bytes();
    bool memory_ok = memory < MEMORY_LIMIT, known = statvfs(".", &disk) == 0 && disk.f_blocks > 0, disk_ok;
    unsigned free_percent = known ? (unsigned)(100 * disk.f_bavail / disk.f_blocks) : 0;
    disk_ok = !known || free_percent >= 1;
    snprintf(detail, sizeof detail, "%" PRIu64 " MiB of %" PRIu64, memory >> 20, MEMORY_LIMIT >> 20);
    (void)redoubt_monitor_check(m, "memory", memory_ok, detail);
    snprintf(detail, sizeof detail, known ? "%u %% free" : "not known", free_percent);
    (void)redoubt_monitor_check(m, "disk", disk_ok, detail);
    w->tell(w->ctx, json_pack("{s:s, s:b, s:b}", "event", "monitor", "memory", memory_ok, "disk", disk_ok));
}

/* ---- restarts ---- */

void sim_work_restart(struct sim_work *w, uint64_t epoch)
{
    atomic_store(&w->restart, true);
    w->tell(w->ctx, json_pack("{s:s, s:I}", "event", "restart_asked", "epoch", (json_int_t)epoch));
}

long sim_work_restarts(void)
{
    const char *n = getenv(RESTARTS);
    return n ? strtol(n, NULL, 10) : 0;
}

void sim_work_exec(void)
{
    static char text[16384];
    char *argv[ARGUMENTS + 1], count[24];
    FILE *f = fopen("/proc/self/cmdline", "re");
    size_t len = f ? fread(text, 1, sizeof text - 1, f) : 0, n = 0;
    if (f)
        fclose(f);
    if (len == 0 || len == sizeof text - 1)
        return;
    for (char *at = text; at < text + len && n < ARGUMENTS; at += strlen(at) + 1)
        argv[n++] = at;
    argv[n] = NULL;
    snprintf(count, sizeof count, "%ld", sim_work_restarts() + 1);
    (void)setenv(RESTARTS, count, 1);
    (void)execv("/proc/self/exe", argv);
}
