/* health_resource.c - when the means of a process count as used up. */
#include "health/health_resource.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const names[HEALTH_MEANS] = {
    [HEALTH_MEANS_MEMORY] = "memory",         [HEALTH_MEANS_CPU] = "CPU",     [HEALTH_MEANS_FDS] = "open files",
    [HEALTH_MEANS_QUEUE] = "work that waits", [HEALTH_MEANS_TASKS] = "tasks",
};

static uint64_t limit_of(const struct health_resource_rule *rule, const struct health_usage *u, int what)
{
    uint64_t limit = u->of[what].limit;
    if (what == HEALTH_MEANS_MEMORY && rule->memory_bytes && (limit == 0 || rule->memory_bytes < limit))
        limit = rule->memory_bytes;
    return limit;
}

/* In thousandths of the limit; without overflow for any value that the kernel may give. */
static uint64_t share_permille(uint64_t used, uint64_t limit)
{
    if (used >= limit) /* more than all is possible: CPU, and limits that were lowered */
        return used / limit >= 1000 ? 1000000 : 1000 * (used / limit) + share_permille(used % limit, limit);
    return limit > UINT64_MAX / 1000 ? used / (limit / 1000) : used * 1000 / limit;
}

static bool is_over(const struct health_resource *s, const struct health_resource_rule *rule,
                    const struct health_usage *u, int what, uint64_t *ret_permille)
{
    uint64_t limit = limit_of(rule, u, what), mark = 10u * (uint64_t)rule->mark_percent[what];
    if (limit == 0 || mark == 0)
        return false;
    *ret_permille = share_permille(u->of[what].used, limit);
    bool was = s->over >> what & 1;
    return *ret_permille >= (was ? mark * HEALTH_MEANS_BACK_PERCENT / 100 : mark);
}

static void amount(int what, uint64_t n, char *buf, size_t size)
{
    if (what == HEALTH_MEANS_MEMORY)
        snprintf(buf, size, n >= 10u << 20 ? "%" PRIu64 " MiB" : "%" PRIu64 " KiB",
                 n >= 10u << 20 ? n >> 20 : n >> 10);
    else if (what == HEALTH_MEANS_CPU)
        snprintf(buf, size, "%" PRIu64 ".%02" PRIu64 " cores", n / 1000, n % 1000 / 10);
    else
        snprintf(buf, size, "%" PRIu64, n);
}

static void look_for_kills(struct health_resource *s, const struct health_usage *u, int64_t now_ms)
{
    if (u->oom_known) {
        if (s->oom_seen && u->oom_kills > s->oom_kills) {
            uint64_t more = u->oom_kills - s->oom_kills;
            s->oom_news += more > 1000 ? 1000 : (uint32_t)more;
            s->oom_until_ms = now_ms + HEALTH_OOM_HOLD_MS;
        }
        s->oom_kills = u->oom_kills; /* less than before: a new cgroup */
        s->oom_seen = true;
    }
    if (s->oom_until_ms && now_ms >= s->oom_until_ms) {
        s->oom_until_ms = 0;
        s->oom_news = 0;
    }
}

void health_resource_judge(struct health_resource *s, const struct health_resource_rule *rule,
                           const struct health_usage *u, int64_t now_ms, struct health_result *r)
{
    look_for_kills(s, u, now_ms);
    r->fault = HEALTH_FAULT_NONE;
    int worst = -1;
    uint64_t most = 0;
    uint8_t over = 0;
    for (int i = 0; i < HEALTH_MEANS; i++) {
        uint64_t permille = 0;
        if (!is_over(s, rule, u, i, &permille))
            continue;
        over |= (uint8_t)(1u << i);
        if (worst < 0 || permille > most) {
            worst = i;
            most = permille;
        }
    }
    s->over = over;
    if (s->oom_until_ms) {
        r->fault = HEALTH_FAULT_OOM;
        health_detail(r, "%u killed by the kernel for want of memory, the last %.0f s ago", s->oom_news,
                      (double)(now_ms + HEALTH_OOM_HOLD_MS - s->oom_until_ms) / 1000);
    } else if (worst >= 0) {
        char used[32], limit[32], throttled[48] = "";
        amount(worst, u->of[worst].used, used, sizeof used);
        amount(worst, limit_of(rule, u, worst), limit, sizeof limit);
        if (worst == HEALTH_MEANS_CPU && u->throttled_permille)
            snprintf(throttled, sizeof throttled, ", held back %u %% of the time", u->throttled_permille / 10);
        r->fault = HEALTH_FAULT_EXHAUSTED;
        health_detail(r, "%s %s of %s (%" PRIu64 " %%, mark %u %%)%s", names[worst], used, limit, most / 10,
                      rule->mark_percent[worst], throttled);
    }
}

uint32_t health_cpu_permille(uint64_t used_us, int64_t span_us)
{
    if (span_us <= 0)
        return 0;
    uint64_t permille = used_us > UINT64_MAX / 1000 ? UINT32_MAX : used_us * 1000 / (uint64_t)span_us;
    return permille > UINT32_MAX ? UINT32_MAX : (uint32_t)permille;
}
