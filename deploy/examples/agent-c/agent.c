/* agent.c - a complete small agent under Redoubt's protection, in one file.
 *
 * It looks at an event once a second, asks an LLM (any OpenAI-compatible API) whether it is a threat, and has the source blocked if so.
 * What Redoubt adds, and where to look:
 *
 *   on_directive()  be what the suite says: which LLM, whether automated actions are allowed, how strict
 *   redoubt_admit() before each call: the whole fleet's verdict on this target, pushed, without a round trip
 *   redoubt_report() after each call: the evidence that the verdict is made from
 *   redoubt_act_wait() every action passes the guard: allowed in this position, limited, done once, or queued while the backend is away
 *   redoubt_decision() after each decision: what the suite judges the agent's judgement by
 *   redoubt_load()  when means run short, only a share of the work is taken on
 *   redoubt_take_share() while two versions stand side by side (a rollback), each event is taken by one of them
 *   on_restart()    the suite asks for a new process
 *   on_monitor()    basic monitoring while it cannot work in full: its own health, and the log
 *   on_selftest()   a question with one right answer, asked by the suite, answered by the same code that decides
 *   on_heartbeat()  a progress counter: alive is not enough
 *
 *   ./agent nats://127.0.0.1:4222 mcp llm.primary=http://127.0.0.1:9001/v1 llm.backup=http://127.0.0.1:9002/v1 log=/var/log/auth.log
 *
 * The agent's name and the targets are those of the suite's settings (agents: and targets: in redoubt.yaml), the action is one of its
 * security baseline. */
#include <curl/curl.h>
#include <pthread.h>
#include <redoubt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define CALL_LIMIT_MS   10000
#define MEMORY_LIMIT_MB 256 /* of this process: more than it ever needs */
#define DISK_FREE_PCT   5
#define LOGINS_LIMIT    10 /* failed logins between two looks at the log */

/* A question that waits for the working thread. */
struct question {
    char id[65], event[512];
};

/* The position that the last directive asks for. Written by the library's thread, read by ours: hence the lock. */
struct position {
    pthread_mutex_t lock;
    char llm_target[129], llm_model[257];
    bool automation, frozen;
};

struct agent {
    redoubt *redoubt;
    struct position now;
    int n_llms;
    char **llms; /* "target=base url" */
    _Atomic uint64_t progress, exceptions;
    pthread_mutex_t asked_lock;
    struct question asked; /* id "" = none */
    const char *log_path;  /* NULL = no log to look at */
    long log_seen;         /* bytes of it; the library's thread only */
    long began;            /* distinguishes this process's events from those of the one before */
    _Atomic bool restart;
};

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

static const char *url_of(const struct agent *a, const char *target)
{
    size_t n = strlen(target);
    for (int i = 0; n > 0 && i < a->n_llms; i++)
        if (strncmp(a->llms[i], target, n) == 0 && a->llms[i][n] == '=')
            return a->llms[i] + n + 1;
    return NULL;
}

/* Called once for each new position, in order. Take it over, then say so: until the answer the suite asks again, and after a while
 * it tells people. Say REDOUBT_FAILED with a reason if it cannot be done, and be stricter rather than looser meanwhile. */
static enum redoubt_ack on_directive(void *ctx, const redoubt_directive *d, char detail[256])
{
    struct agent *a = ctx;
    bool known = d->llm_index < 0 || url_of(a, d->llm_target);

    pthread_mutex_lock(&a->now.lock);
    /* No usable LLM, or one that we were not told how to reach: decide by fixed rules. */
    snprintf(a->now.llm_target, sizeof a->now.llm_target, "%s", known && d->llm_index >= 0 ? d->llm_target : "");
    snprintf(a->now.llm_model, sizeof a->now.llm_model, "%s", d->llm_model);
    /* Frozen, out of touch, or not able to do what we were told: no automated action. */
    a->now.automation = d->automation_enabled && d->posture < REDOUBT_SECURITY_FALLBACK && known;
    a->now.frozen = d->posture == REDOUBT_FROZEN;
    pthread_mutex_unlock(&a->now.lock);

    printf("directive %llu: posture %d, LLM %s %s, automation %s (%s)\n", (unsigned long long)d->epoch,
           (int)d->posture, d->llm_index < 0 ? "none" : d->llm_target, d->llm_model,
           d->automation_enabled ? "on" : "off", d->reason);
    if (known)
        return REDOUBT_APPLIED;
    snprintf(detail, 256, "no URL was given for target %s", d->llm_target);
    return REDOUBT_FAILED;
}

static void on_heartbeat(void *ctx, uint64_t *progress, uint64_t *exceptions, uint32_t *queue_depth)
{
    const struct agent *a = ctx;
    *progress = atomic_load(&a->progress); /* stands still while work waits: the suite calls that stuck */
    *exceptions = atomic_load(&a->exceptions);
    *queue_depth = 0;
}

/* On the library's thread, which must not wait for an LLM: the question is only taken over. */
static void on_selftest(void *ctx, const redoubt_selftest *q)
{
    struct agent *a = ctx;
    pthread_mutex_lock(&a->asked_lock);
    snprintf(a->asked.id, sizeof a->asked.id, "%s", q->id);
    snprintf(a->asked.event, sizeof a->asked.event, "%s", q->event_json);
    pthread_mutex_unlock(&a->asked_lock);
}

/* Our memory may have grown, and a new process is the cure. Only handed on: the working thread ends in order first. */
static void on_restart(void *ctx, uint64_t epoch)
{
    struct agent *a = ctx;
    printf("directive %llu asks for a restart\n", (unsigned long long)epoch);
    atomic_store(&a->restart, true);
}

/* Failed logins since the last look: plain reading, without LLM and without backend. -1 = the log cannot be read. */
static int failed_logins(struct agent *a)
{
    char line[1024];
    int n = 0;
    FILE *f = fopen(a->log_path, "re");
    if (!f)
        return -1;
    fseek(f, 0, SEEK_END);
    if (ftell(f) < a->log_seen)
        a->log_seen = 0; /* a new file in its place */
    fseek(f, a->log_seen, SEEK_SET);
    while (fgets(line, sizeof line, f))
        n += strstr(line, "Failed password") || strstr(line, "authentication failure");
    a->log_seen = ftell(f);
    fclose(f);
    return n;
}

/* On the library's thread, while the suite asks for it, also without any connection: what can be seen from here. */
static void on_monitor(void *ctx, redoubt_monitor *m)
{
    struct agent *a = ctx;
    char detail[128];
    unsigned long pages = 0;
    struct statvfs disk;

    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%*u %lu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    unsigned long memory_mb = pages * (unsigned long)sysconf(_SC_PAGESIZE) >> 20;
    snprintf(detail, sizeof detail, "%lu MiB in use, %d are enough", memory_mb, MEMORY_LIMIT_MB);
    redoubt_monitor_check(m, "memory", memory_mb <= MEMORY_LIMIT_MB, detail);

    if (statvfs("/", &disk) == 0 && disk.f_blocks > 0) {
        unsigned free_percent = (unsigned)(disk.f_bavail * 100 / disk.f_blocks);
        snprintf(detail, sizeof detail, "%u %% free", free_percent);
        redoubt_monitor_check(m, "disk", free_percent >= DISK_FREE_PCT, detail);
    }
    if (a->log_path) {
        int n = failed_logins(a);
        snprintf(detail, sizeof detail, n < 0 ? "cannot be read" : "%d failed logins since the last look", n);
        redoubt_monitor_check(m, "auth_log", n >= 0 && n < LOGINS_LIMIT, detail);
    }
    printf("basic monitoring done\n");
}

static void on_connection(void *ctx, bool up)
{
    (void)ctx;
    printf("%s\n", up ? "connected" : "connection lost: going on by the last directive, until the lease is over");
}

/* ---- the agent's own work ---- */

struct answer {
    char text[16384];
    size_t len;
    bool complete;
};

static size_t on_data(char *data, size_t size, size_t n, void *ctx)
{
    struct answer *x = ctx;
    size_t len = size * n;
    if (len >= sizeof x->text - x->len)
        return 0; /* larger than any answer to our question: not usable */
    memcpy(x->text + x->len, data, len);
    x->len += len;
    x->text[x->len] = '\0';
    return len;
}

/* From curl's result and the HTTP status to what the breaker wants to know: whose fault was it? */
static enum redoubt_outcome outcome_of(CURLcode code, long status, const struct answer *x)
{
    switch (code) {
    case CURLE_OK:
        break;
    case CURLE_OPERATION_TIMEDOUT:
        return REDOUBT_TIMEOUT;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
        return REDOUBT_UNREACHABLE;
    default:
        return REDOUBT_ERROR; /* cut in the middle, not HTTP, ... */
    }
    if (status == 429)
        return REDOUBT_RATE_LIMITED;
    if (status == 503 || status == 529)
        return REDOUBT_OVERLOADED;
    if (status >= 500)
        return REDOUBT_ERROR;
    if (status >= 400)
        return REDOUBT_IGNORED; /* our request or our key was wrong: says nothing about the target */
    return strstr(x->text, "\"choices\"") ? REDOUBT_SUCCESS
                                          : REDOUBT_ERROR; /* a 200 that is no answer is a failure */
}

/* What the model's answer means; "" = it is none of the two that were asked for. */
static const char *verdict_in(const char *body)
{
    const char *content = strstr(body, "\"content\"");
    if (content && strstr(content, "block"))
        return "malicious";
    return content && strstr(content, "well") ? "benign" : "";
}

/* Asks the LLM for its verdict: "malicious", "benign", "" for an answer that makes no sense; NULL = no usable answer. */
static const char *ask_llm(struct agent *a, CURL *curl, const char *target, const char *model, const char *event)
{
    redoubt_admission go = redoubt_admit(a->redoubt, target);
    if (!go.admitted) {
        printf("%s is not to be called now, ask again in %u ms\n", target, go.retry_after_ms);
        return NULL;
    }
    char url[512], body[1024];
    struct answer x = {.len = 0};
    snprintf(url, sizeof url, "%s/chat/completions", url_of(a, target));
    snprintf(body, sizeof body,
             "{\"model\":\"%s\",\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":\"Answer "
             "with block, or with all is well: %s\"}]}",
             model, event);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &x);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)CALL_LIMIT_MS);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    CURLcode code = curl_easy_perform(curl);
    curl_slist_free_all(headers);

    long status = 0;
    curl_off_t retry_after_s = 0, total_us = 0, first_us = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_after_s);
    curl_easy_getinfo(curl, CURLINFO_TOTAL_TIME_T, &total_us);
    curl_easy_getinfo(curl, CURLINFO_STARTTRANSFER_TIME_T, &first_us);
    enum redoubt_outcome outcome = outcome_of(code, status, &x);
    /* Always report, good or bad: silence is no evidence. The permit goes back with it. */
    redoubt_report(a->redoubt, target,
                   &(redoubt_call){.outcome = outcome,
                                   .status_code = (unsigned)status,
                                   .total_ms = (unsigned)(total_us / 1000),
                                   .first_token_ms = (unsigned)(first_us / 1000),
                                   .retry_after_ms = (unsigned)(retry_after_s * 1000),
                                   .permit_id = go.permit_id});
    if (outcome != REDOUBT_SUCCESS)
        printf("%s: %s, status %ld\n", target, code == CURLE_OK ? "no usable answer" : curl_easy_strerror(code),
               status);
    return outcome == REDOUBT_SUCCESS ? verdict_in(x.text) : NULL;
}

/* For the body of a request: what would end the text there. */
static void without_quotes(char *text)
{
    for (; *text; text++)
        if (*text == '"' || *text == '\\' || (unsigned char)*text < 0x20)
            *text = ' ';
}

/* Answers by the very code that decides, and acts on nothing. */
static void answer_selftest(struct agent *a, CURL *curl, const char *target, const char *model)
{
    pthread_mutex_lock(&a->asked_lock);
    struct question q = a->asked;
    a->asked.id[0] = '\0';
    pthread_mutex_unlock(&a->asked_lock);
    if (!q.id[0])
        return;
    without_quotes(q.event);
    const char *verdict = target[0] ? ask_llm(a, curl, target, model, q.event) : NULL;
    char answer[64];
    snprintf(answer, sizeof answer, "{\"verdict\": \"%s\"}", verdict ? verdict : "");
    if (redoubt_selftest_answer(a->redoubt, q.id, verdict ? answer : NULL, "no LLM gives a usable answer") < 0)
        printf("a self-test was answered too late\n");
}

/* Has the source blocked. The guard decides, whether we may and where it goes, and what we are told is what happened. The key is the event's own:
 * however often it is asked for, it is done once. The decision goes with it, as what becomes of its action is evidence on it. */
static const char *block(struct agent *a, const char *key, const char *ip, const redoubt_decision_t *decision)
{
    redoubt_result r;
    const redoubt_parameter parameters[] = {{"ip", ip}};
    const redoubt_action action = {.action = "block_ip",
                                   .parameters = parameters,
                                   .n_parameters = 1,
                                   .idempotency_key = key,
                                   .decision = decision};
    if (redoubt_act_wait(a->redoubt, &action, &r) < 0)
        return "not asked for: too much waits";
    switch (r.result) {
    case REDOUBT_ACT_FORWARDED:
        return "blocked";
    case REDOUBT_ACT_QUEUED:
        return "waits for the backend";
    case REDOUBT_ACT_DUPLICATE:
        return "was blocked before";
    case REDOUBT_ACT_PERMITTED: /* `execute: agent` in the baseline: now, and once */
        return "permitted, and done by ourselves";
    case REDOUBT_ACT_REFUSED:
        printf("%s is refused: %s\n", key, redoubt_refusal_text(r.refusal));
        return "watching only";
    case REDOUBT_ACT_FAILED:
        return "the backend refuses it";
    case REDOUBT_ACT_UNKNOWN: /* asking again later, with this key, would tell */
        return "nobody knows whether it is blocked";
    }
    return "?";
}

static void work(struct agent *a, CURL *curl, unsigned long number)
{
    char target[129], model[257], event[64], key[64];
    snprintf(event, sizeof event, "failed login %lu from 192.0.2.7", number);
    snprintf(key, sizeof key, "login-%ld-%lu", a->began, number);

    pthread_mutex_lock(&a->now.lock);
    snprintf(target, sizeof target, "%s", a->now.llm_target);
    snprintf(model, sizeof model, "%s", a->now.llm_model);
    bool automation = a->now.automation, frozen = a->now.frozen;
    pthread_mutex_unlock(&a->now.lock);
    answer_selftest(a, curl, target, model);

    /* Short of means: this one is left to others. Frozen we only watch, and that goes on. */
    if (!frozen && !redoubt_load(a->redoubt)) {
        printf("%s: not taken on\n", event);
        return;
    }
    /* While the suite moves work from one version to another, this event is one version's. What is frozen only watches, and watches everything. */
    if (!frozen && !redoubt_take_share(a->redoubt, event)) {
        printf("%s: the other version's\n", event);
        return;
    }
    /* Without an LLM the strict default holds: what is not known to be harmless is treated as a threat, and people decide. */
    const char *verdict = target[0] ? ask_llm(a, curl, target, model, event) : NULL;
    bool by_llm = verdict && *verdict, threat = !by_llm || strcmp(verdict, "malicious") == 0;
    bool nonsense = verdict && !*verdict, acts = by_llm && threat && automation;
    /* Every decision is told: by the library with the outcome of its action, or else by us. */
    const redoubt_decision_t decision = {.event_key = key,
                                         .verdict = nonsense ? NULL
                                                    : threat ? "malicious"
                                                             : "benign",
                                         .action = acts ? "block_ip" : NULL,
                                         .object = "192.0.2.7",
                                         .detail =
                                             nonsense ? "the model answered neither block nor all is well" : NULL,
                                         .outcome = nonsense ? REDOUBT_DECIDED_MALFORMED : REDOUBT_DECIDED_DONE};
    if (!acts)
        redoubt_decision(a->redoubt, &decision);
    printf("%s: judged by %s; %s\n", event, by_llm ? target : "strict rules",
           !threat ? "harmless"
           : acts  ? block(a, key, "192.0.2.7", &decision)
                   : "watching only, no automated action");
    if (!frozen)
        redoubt_share_done(a->redoubt);
    atomic_fetch_add(&a->progress, 1);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s NATS-URL AGENT [TARGET=BASE-URL]... [log=FILE]\n", argv[0]);
        return 2;
    }
    char error[256];
    struct agent a = {.n_llms = argc - 3, .llms = argv + 3, .began = (long)time(NULL)};
    a.log_path = url_of(&a, "log");
    pthread_mutex_init(&a.now.lock, NULL);
    pthread_mutex_init(&a.asked_lock, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0); /* each line at once, also into a file */
    curl_global_init(CURL_GLOBAL_DEFAULT);
    CURL *curl = curl_easy_init();
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);

    /* Connects in the background: the suite may come later, or go and come back. Until the first directive nothing is automated. */
    a.redoubt =
        redoubt_open(&(redoubt_options){.url = argv[1],
                                        .user = getenv("NATS_USER"),
                                        .password = getenv("NATS_PASSWORD"),
                                        .agent = argv[2],
                                        .on_directive = on_directive,
                                        .on_heartbeat = on_heartbeat,
                                        .on_connection = on_connection,
                                        .on_selftest = on_selftest,
                                        .on_restart = on_restart,
                                        .on_monitor = on_monitor,
                                        .deployment = getenv("AGENT_DEPLOYMENT"), /* with AGENT_VERSION, or neither */
                                        .version = getenv("AGENT_VERSION"),
                                        .ctx = &a},
                     error);
    if (!a.redoubt || !curl) {
        fprintf(stderr, "%s\n", a.redoubt ? "no memory for curl" : error);
        return 1;
    }
    for (unsigned long n = 1; !stop && !atomic_load(&a.restart); n++) {
        work(&a, curl, n);
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    }
    redoubt_close(a.redoubt); /* what was reported leaves first */
    curl_easy_cleanup(curl);
    curl_global_cleanup();
    pthread_mutex_destroy(&a.asked_lock);
    pthread_mutex_destroy(&a.now.lock);
    if (!stop && atomic_load(&a.restart)) {
        execv("/proc/self/exe", argv); /* under a supervisor, ending would do */
        perror("cannot begin anew");
        return 1;
    }
    return 0;
}
