/* kube_run.c - runs a command once in a version's image, with its data, as a Job.
 *
 *   is the Job there? -> (no: look -> copies of ConfigMaps -> is no former pod left? -> create) -> followed to its end -> its pod -> the log
 *   -> (failed, or not done in time: deleted -> no pod is left) -> told
 * The Job goes by the rollback's own name: one that a crash has left is found and followed, and its command not run a second time. Ended well, it
 * stays until the version is removed, so that its end is known; a failed one is removed, and may be asked for anew. */
#include "rollback/executor_kubernetes.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFLICTS_MAX 6
#define RUN_MS        1800000 /* if the settings name no time for the learning data */
#define SLACK_S       60      /* the API server ends it later than we do: our words are better */
#define LEFT_MS       200     /* between looks for a pod that is ending */
#define LEFT_MAX_MS   90000

static void find(struct act *a);
static void follow(struct act *a);
static void arm(struct act *a, int64_t after_ms);

static int64_t all_ms(const struct act *a)
{
    return a->x->set->data.timeout_ms > 0 ? a->x->set->data.timeout_ms : RUN_MS;
}

/* Until it has begun: what has no room, or no image, has none in half an hour either. */
static int64_t begin_ms(const struct act *a)
{
    int64_t ms = a->x->set->kubernetes.rollout_ms;
    return ms < all_ms(a) ? ms : all_ms(a);
}

/* ---- no two at a time ---- */

static void ask_left(struct act *a);

/* A pod whose Job was deleted runs on until it has ended: nobody may touch the data until then. */
static void on_left(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    const json_t *left = NULL, *items = json_object_get(r ? r->body : NULL, "items");
    for (size_t i = 0; i < json_array_size(items); i++) {
        const char *phase = kube_text(json_array_get(items, i), "status.phase");
        if (strcmp(phase, "Succeeded") != 0 && strcmp(phase, "Failed") != 0)
            left = json_array_get(items, i);
    }
    a->left_ms += LEFT_MS;
    if (!r) {
        act_drop(a);
    } else if (r->ok && left && a->left_ms < LEFT_MAX_MS) {
        a->clearing = true;
        arm(a, LEFT_MS);
    } else {
        a->clearing = false;
        if (!r->ok)
            snprintf(a->pod, sizeof a->pod, "(%.200s)", r->error);
        else
            snprintf(a->pod, sizeof a->pod, "%.253s", kube_text(left, "metadata.name"));
        a->next(a);
    }
}

static void ask_left(struct act *a)
{
    char selector[100];
    snprintf(selector, sizeof selector, "job-name=%s", a->run);
    kube_call(a->x->kube, &(struct kube_request){.kind = KUBE_PODS, .verb = KUBE_LIST, .selector = selector}, on_left,
              a);
}

static void when_none_is_left(struct act *a, void (*next)(struct act *a))
{
    a->next = next;
    a->left_ms = 0;
    ask_left(a);
}

/* ---- its end ---- */

static void tell_failure(struct act *a)
{
    char text[1400];
    snprintf(text, sizeof text, "kubernetes: Job %s (%.60s) %.320s%s%.700s", a->run, a->argv[0], a->stuck,
             *a->said ? "; its log ends with: " : "", a->said);
    if (*a->pod)
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 "; it may still run: look at pod %.120s before anything touches the learning data", a->pod);
    act_end(a, true, text, "");
}

static void on_deleted(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    if (!r) {
        act_drop(a);
        return;
    }
    if (!r->ok && r->status != 404)
        snprintf(a->stuck + strlen(a->stuck), sizeof a->stuck - strlen(a->stuck),
                 "; kubectl delete job %s, which failed: %.100s", a->run, r->error);
    when_none_is_left(a, tell_failure);
}

static void told_all(struct act *a)
{
    if (a->done) {
        act_end(a, false, NULL, *a->said ? a->said : "it ended with 0");
        return;
    }
    kube_call(a->x->kube,
              &(struct kube_request){.kind = KUBE_JOBS, .verb = KUBE_DELETE, .name = a->run, .background = true},
              on_deleted, a);
}

static void on_log(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    if (!r) {
        act_drop(a);
        return;
    }
    if (r->ok)
        kube_log_end(r->text, r->text_len, a->said, sizeof a->said);
    else
        snprintf(a->said, sizeof a->said, "(%.300s)", r->error);
    told_all(a);
}

static const json_t *container_status(const json_t *pod, const char *name)
{
    const json_t *all = kube_at(pod, "status.containerStatuses");
    for (size_t i = 0; i < json_array_size(all); i++)
        if (strcmp(kube_text(json_array_get(all, i), "name"), name) == 0)
            return json_array_get(all, i);
    return NULL;
}

/* Why it has not begun: what the scheduler says, or the kubelet. */
static void not_begun(struct act *a, const json_t *pod)
{
    const json_t *scheduled = kube_condition(json_object_get(pod, "status"), "PodScheduled");
    char why[300] = "it has no pod; kubectl describe job says why";
    if (strcmp(kube_text(scheduled, "status"), "False") == 0)
        snprintf(why, sizeof why, "its pod is not scheduled: %.240s", kube_text(scheduled, "message"));
    else if (pod && !kube_pod_ready(pod, why, sizeof why))
        snprintf(why + strlen(why), sizeof why - strlen(why), "; kubectl describe pod %.80s says what it waits for",
                 kube_text(pod, "metadata.name"));
    snprintf(a->stuck, sizeof a->stuck, "has not begun within %g s: %.250s", (double)begin_ms(a) / 1000, why);
}

/* What the Job's pod says of how it ended. */
static void how_ended(struct act *a, const json_t *pod, const char *container)
{
    const json_t *end = kube_at(container_status(pod, container), "state.terminated");
    const char *reason = kube_text(end, "reason");
    if (end)
        snprintf(a->stuck, sizeof a->stuck, "ended with %lld (%.60s)", (long long)kube_int(end, "exitCode", -1),
                 *reason ? reason : "no reason is given");
}

/* The one that runs the command: others may have put containers of theirs into the pod. */
static const char *container_name(const struct act *a, const json_t *pod)
{
    const char *meant = a->x->set->kubernetes.container;
    const char *name = kube_text(kube_container(act_spec_template(a), meant), "name");
    return kube_text(kube_container(pod, *name ? name : meant), "name");
}

static void on_pods(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    if (!r) {
        act_drop(a);
        return;
    }
    const json_t *items = json_object_get(r->body, "items");
    const json_t *pod = r->ok ? json_array_get(items, json_array_size(items) - 1) : NULL;
    const char *phase = kube_text(pod, "status.phase");
    const char *container = container_name(a, pod);
    bool begun = !r->ok || (pod && *phase && strcmp(phase, "Pending") != 0);
    bool well = strcmp(phase, "Succeeded") == 0;
    if (a->over && (well || strcmp(phase, "Failed") == 0)) {
        a->over = false; /* only its Job does not say so yet */
        a->done = well;
    }
    if (a->over && begun && !a->begun && all_ms(a) > begin_ms(a)) {
        a->begun = true;
        a->over = false;
        loop_timer_start(&a->limit, all_ms(a) - begin_ms(a), 0);
        follow(a);
        return;
    }
    if (a->over && !r->ok) { /* nothing is known: asked for again, it is looked at again */
        act_end(a, r->lasting, r->error, "");
        return;
    }
    if (a->over && begun)
        snprintf(a->stuck, sizeof a->stuck, "was not done within %g s (data.timeout), and was ended",
                 (double)all_ms(a) / 1000);
    else if (a->over)
        not_begun(a, pod);
    else if (!a->done)
        how_ended(a, pod, container);
    if (pod && begun)
        kube_call(
            a->x->kube,
            &(struct kube_request){
                .kind = KUBE_LOGS, .verb = KUBE_GET, .name = kube_text(pod, "metadata.name"), .container = container},
            on_log, a);
    else
        told_all(a);
}

static void ask_pods(struct act *a)
{
    char selector[100];
    kube_unfollow(a->follow);
    a->follow = NULL;
    loop_timer_stop(&a->limit);
    snprintf(selector, sizeof selector, "job-name=%s", a->run);
    kube_call(a->x->kube, &(struct kube_request){.kind = KUBE_PODS, .verb = KUBE_LIST, .selector = selector}, on_pods,
              a);
}

/* ---- following it ---- */

static void on_limit(void *ctx)
{
    struct act *a = ctx;
    if (a->clearing) {
        ask_left(a);
        return;
    }
    a->over = true;
    ask_pods(a);
}

/* It is not there any more. One that was on its way out when we first saw it makes room for ours. */
static void gone(struct act *a)
{
    char text[400];
    kube_unfollow(a->follow);
    a->follow = NULL;
    if ((a->seen && !a->going) || a->tries++ >= CONFLICTS_MAX) {
        snprintf(
            text, sizeof text,
            "kubernetes: Job %s (%.60s) was deleted by somebody else before its end was known: look at the learning "
            "data, then abort, or resume to run it again",
            a->run, a->argv[0]);
        act_end(a, true, text, "");
        return;
    }
    loop_timer_stop(&a->limit);
    a->seen = a->going = a->begun = false;
    find(a);
}

static void on_change(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    char why[300], text[700];
    if (!r) {
        act_drop(a);
        return;
    }
    if (!r->ok && r->status == 404) {
        gone(a);
        return;
    }
    if (!r->ok) {
        if (!r->lasting)
            return; /* it is followed on */
        snprintf(text, sizeof text, "%.690s", r->error);
        kube_unfollow(a->follow);
        act_end(a, true, text, "");
        return;
    }
    if (!a->seen)
        a->going = kube_at(r->body, "metadata.deletionTimestamp");
    a->seen = true;
    enum kube_job_state state = kube_job_state(r->body, why, sizeof why);
    if (a->going || state == KUBE_JOB_RUNS)
        return;
    a->done = state == KUBE_JOB_DONE;
    a->over = false;
    snprintf(a->stuck, sizeof a->stuck, "failed: %.250s", why);
    ask_pods(a);
}

static void arm(struct act *a, int64_t after_ms)
{
    if (!a->limited)
        loop_timer_init(&a->x->service->loop, &a->limit, on_limit, a);
    a->limited = true;
    loop_timer_start(&a->limit, after_ms, 0);
}

static void follow(struct act *a)
{
    if (!a->begun)
        arm(a, begin_ms(a));
    a->follow = kube_follow(a->x->kube, KUBE_JOBS, a->run, on_change, a);
}

/* ---- its begin ---- */

static void on_created(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    if (!r)
        act_drop(a);
    else if (r->ok)
        follow(a);
    else if (kube_conflict(r) && a->tries++ < CONFLICTS_MAX)
        find(a); /* an earlier call whose answer was lost */
    else
        act_end(a, r->lasting, r->error, "");
}

static void create(struct act *a)
{
    if (*a->pod) { /* of a Job that was deleted; or nobody can say */
        char why[400];
        snprintf(why, sizeof why, "kubernetes: pod %s of an earlier Job %s has not ended yet", a->pod, a->run);
        act_end(a, false, why, "");
        return;
    }
    struct kube_job_order o = {.name = a->run,
                               .owner = a->x->set->name,
                               .job = a->job,
                               .container = a->x->set->kubernetes.container,
                               .argv = (const char *const *)a->argv,
                               .deadline_s = (all_ms(a) + begin_ms(a)) / 1000 + SLACK_S};
    json_t *job = kube_job(a->template, a->deployment, &o), *labels = kube_at(job, "spec.template.metadata.labels");
    const json_t *takes = kube_selects(a->deployment, labels)          ? a->deployment
                          : a->other && kube_selects(a->other, labels) ? a->other
                                                                       : NULL;
    char text[400];
    if (takes) {
        snprintf(
            text, sizeof text,
            "kubernetes: Deployment %s would take the pod of Job %s for its own: select its pods by a label that "
            "they have",
            kube_text(takes, "metadata.name"), a->run);
        act_end(a, true, text, "");
    } else {
        kube_call(a->x->kube, &(struct kube_request){.kind = KUBE_JOBS, .verb = KUBE_CREATE, .body = job}, on_created,
                  a);
    }
    json_decref(job);
}

static void on_look(void *ctx, const struct kube_look *l);

static void on_copies_made(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    if (!r)
        act_drop(a);
    else if (r->ok)
        when_none_is_left(a, create);
    else if (kube_conflict(r) && a->tries++ < CONFLICTS_MAX)
        act_look(a, on_look);
    else
        act_end(a, r->lasting, r->error, "");
}

static void on_look(void *ctx, const struct kube_look *l)
{
    struct act *a = ctx;
    if (!l)
        act_drop(a);
    else if (act_take(a, l) == 0 && act_plan_template(a, l) == 0)
        act_make_copies(a, on_copies_made);
}

static void on_found(void *ctx, const struct kube_reply *r)
{
    struct act *a = ctx;
    char text[300];
    if (!r) {
        act_drop(a);
    } else if (r->status == 404 && a->argv[0]) {
        act_look(a, on_look);
    } else if (!r->ok) {
        act_end(a, r->lasting, r->status == 404 ? "kubernetes: there is no command to run" : r->error, "");
    } else if (!kube_job_is(r->body, a->x->set->name, a->job)) {
        snprintf(text, sizeof text, "kubernetes: the name %s is taken by a Job of somebody else: delete it first",
                 a->run);
        act_end(a, true, text, "");
    } else {
        follow(a);
    }
}

static void find(struct act *a)
{
    kube_call(a->x->kube, &(struct kube_request){.kind = KUBE_JOBS, .verb = KUBE_GET, .name = a->run}, on_found, a);
}

void kube_run(struct executor *x, const struct executor_order *o, const char *const *argv, executor_cb cb, void *ctx)
{
    struct act *a = act_new(x, ACT_RUN, o, cb, ctx);
    size_t n = 0;
    while (argv && argv[n])
        n++;
    a->argv = calloc(n + 1, sizeof *a->argv);
    if (!a->argv)
        abort();
    for (size_t i = 0; i < n; i++)
        if (!(a->argv[i] = strdup(argv[i])))
            abort();
    kube_job_name(x->set->kubernetes.deployment, a->job, a->run);
    find(a);
}
