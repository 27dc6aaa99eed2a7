/* sim_mind.c - the judgement of the simulated agent, and how it can go wrong.
 *
 * It judges by one rule: ten failed logins or more are an attack, and the source is blocked. Self-tests are judged by the same rule:
 * {"source": "203.0.113.7", "failed_logins": 40} has the answer {"verdict": "malicious", "action": "block_ip", "object": "203.0.113.7"}. */
#include "cli/sim_mind.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LOGINS_MAX   9
#define MEMORY_BYTES (256u << 20)

enum {
    STUCK,         /* alive, work waits, and none is done */
    MALFORMED,     /* every third decision cannot be used */
    CONTRADICTORY, /* the same event is judged one way and the other */
    REPEAT,        /* the same source is blocked again and again */
    DENIED,        /* most of its actions are refused */
    EXCEPTIONS,    /* every third decision ends in an exception, which its heartbeats count */
    SELFTEST,      /* self-tests are answered wrongly */
    MEMORY,        /* holds 256 MiB that it does not need */
    WAYS
};
static const char *const names[WAYS] = {
    [STUCK] = "stuck",   [MALFORMED] = "malformed",   [CONTRADICTORY] = "contradictory", [REPEAT] = "repeat",
    [DENIED] = "denied", [EXCEPTIONS] = "exceptions", [SELFTEST] = "selftest",           [MEMORY] = "memory",
};

static bool is(const struct sim_mind *m, int way)
{
    return m->ways >> way & 1 && atomic_load(&m->bad);
}

static void let_go(struct sim_mind *m)
{
    if (m->held)
        munmap(m->held, MEMORY_BYTES);
    m->held = NULL;
}

static void hold_memory(struct sim_mind *m)
{
    if (!is(m, MEMORY)) {
        let_go(m);
    } else if (!m->held) {
        /* Memory that nobody touched is not used: all of it at once, which takes far less time than page by page. */
        int how = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
        void *at = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, how, -1, 0);
        m->held = at == MAP_FAILED ? NULL : at;
    }
}

bool sim_mind_init(struct sim_mind *m, const char *ways, bool well, char which[32])
{
    for (const char *at = ways; at && *at;) {
        size_t n = strcspn(at, ",");
        int way = 0;
        while (way < WAYS && (strlen(names[way]) != n || strncmp(names[way], at, n) != 0))
            way++;
        if (way == WAYS) {
            snprintf(which, 32, "%.*s", (int)(n < 31 ? n : 31), at);
            return false;
        }
        m->ways |= 1u << way;
        at += n + (at[n] == ',');
    }
    atomic_store(&m->bad, m->ways != 0 && !well);
    hold_memory(m);
    return true;
}

void sim_mind_recover(struct sim_mind *m)
{
    atomic_store(&m->bad, false);
    hold_memory(m);
}

void sim_mind_done(struct sim_mind *m)
{
    let_go(m);
}

bool sim_mind_turn(struct sim_mind *m)
{
    bool bad = !atomic_load(&m->bad);
    atomic_store(&m->bad, bad);
    hold_memory(m);
    return bad;
}

void sim_mind_decide(struct sim_mind *m, redoubt *r, bool may_act)
{
    if (is(m, STUCK))
        return;
    uint64_t n = m->decided++;
    char key[64], object[32];
    redoubt_decision_t d = {.event_key = key, .verdict = "benign", .outcome = REDOUBT_DECIDED_DONE};
    snprintf(object, sizeof object, "203.0.%u.%u", (unsigned)(n >> 8 & 255), (unsigned)(n & 255));
    snprintf(key, sizeof key, "logins/%s/%" PRIu64, object, n);
    bool attack = n % 4 == 0 || is(m, DENIED);
    if (is(m, CONTRADICTORY) && n % 2) {
        snprintf(key, sizeof key, "logins/the-same");
        attack = n % 4 == 1;
    }
    if (is(m, REPEAT) && n % 2) {
        snprintf(object, sizeof object, "203.0.113.7");
        attack = true;
    }
    if (attack) {
        d.verdict = "malicious";
        d.action = may_act ? "block_ip" : NULL; /* told to watch only, it does */
        d.object = object;
    }
    if (is(m, DENIED)) {
        d.outcome = REDOUBT_DECIDED_DENIED;
        d.detail = "refused by policy";
    }
    if (is(m, MALFORMED) && n % 3 == 0)
        d = (redoubt_decision_t){
            .event_key = key, .detail = "the model's answer is no JSON", .outcome = REDOUBT_DECIDED_MALFORMED};
    if (is(m, EXCEPTIONS) && n % 3 == 1) {
        d = (redoubt_decision_t){
            .event_key = key, .detail = "index out of range", .outcome = REDOUBT_DECIDED_EXCEPTION};
        atomic_fetch_add(&m->exceptions, 1);
    }
    (void)redoubt_decision(r, &d);
    atomic_fetch_add(&m->progress, 1);
}

char *sim_mind_judge(const struct sim_mind *m, const char *event_json, const char **ret_error)
{
    json_t *event = json_loads(event_json, 0, NULL), *source = json_object_get(event, "source");
    json_t *logins = json_object_get(event, "failed_logins");
    char *text = NULL;
    *ret_error = "the event has no integer failed_logins";
    if (json_is_integer(logins)) {
        bool attack = (json_integer_value(logins) > LOGINS_MAX) != (m && is(m, SELFTEST));
        json_t *answer = attack ? json_pack("{s:s, s:s, s:s}", "verdict", "malicious", "action", "block_ip", "object",
                                            json_is_string(source) ? json_string_value(source) : "")
                                : json_pack("{s:s, s:s, s:s}", "verdict", "benign", "action", "", "object", "");
        text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
        *ret_error = "out of memory";
        json_decref(answer);
    }
    json_decref(event);
    return text;
}

void sim_mind_answer(const struct sim_mind *m, redoubt *r, const redoubt_selftest *q)
{
    const char *error;
    char *answer = sim_mind_judge(m, q->event_json, &error);
    (void)redoubt_selftest_answer(r, q->id, answer, error);
    free(answer);
}

void sim_mind_heartbeat(struct sim_mind *m, uint64_t *progress, uint64_t *exceptions, uint32_t *queue_depth)
{
    *progress = atomic_load(&m->progress);
    *exceptions = atomic_load(&m->exceptions);
    *queue_depth = is(m, STUCK) ? 5 : 0;
}
