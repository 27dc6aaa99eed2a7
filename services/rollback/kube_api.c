/* kube_api.c - calls of the Kubernetes API: made, repeated where that is right, and their answers put into words.
 *
 * The happy path: kube_call copies the request -> send reads the token and starts the HTTP call -> on_done parses the answer and tells. A
 * call that fails before it is sent, and one that waits before it is made again, go by its timer: nothing is told from inside. */
#include "rollback/kube_impl.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES       4
#define RELOADS     2 /* it may rotate between reading and calling, too */
#define BACKOFF_MS  200
#define WAIT_MAX_MS 10000
#define ANSWER_MAX  (8 << 20)

static const struct {
    const char *group, *version, *resource;
    bool cluster;
} kinds[KUBE_KINDS] = {
    [KUBE_DEPLOYMENTS] = {"apps", "v1", "deployments", false},
    [KUBE_PODS] = {"", "v1", "pods", false},
    [KUBE_CONFIGMAPS] = {"", "v1", "configmaps", false},
    [KUBE_SECRETS] = {"", "v1", "secrets", false},
    [KUBE_SERVICES] = {"", "v1", "services", false},
    [KUBE_SLICES] = {"discovery.k8s.io", "v1", "endpointslices", false},
    [KUBE_SCALERS] = {"autoscaling", "v1", "horizontalpodautoscalers", false},
    [KUBE_ROUTES] = {"gateway.networking.k8s.io", "v1", "httproutes", false},
    [KUBE_REVIEWS] = {"authorization.k8s.io", "v1", "selfsubjectaccessreviews", true},
};
static const struct {
    const char *method, *content_type;
} verbs[] = {
    [KUBE_GET] = {"GET", NULL},
    [KUBE_LIST] = {"GET", NULL},
    [KUBE_CREATE] = {"POST", "Content-Type: application/json"},
    [KUBE_PATCH] = {"PATCH", "Content-Type: application/json-patch+json"},
    [KUBE_MERGE] = {"PATCH", "Content-Type: application/merge-patch+json"},
    [KUBE_DELETE] = {"DELETE", NULL},
};

struct kube_call {
    struct kube *k; /* NULL = dropped */
    struct kube_call *next, **link;
    enum kube_kind kind;
    enum kube_verb verb;
    char *name, *query, *body;
    kube_cb cb;
    void *ctx;
    struct http_call *http;
    struct loop_timer timer;
    unsigned tries;
    unsigned reloads;
    struct err early; /* why it was not sent */
};

const char *kube_group(enum kube_kind kind)
{
    return kinds[kind].group;
}

const char *kube_resource(enum kube_kind kind)
{
    return kinds[kind].resource;
}

const char *kube_namespace(const struct kube *k)
{
    return k->access.namespace;
}

/* ---- one exchange ---- */

char *kube_escape(const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    char *buf = malloc(strlen(text) * 3 + 1), *p = buf;
    for (; buf && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (isalnum(c) || strchr("-._~", c)) {
            *p++ = (char)c;
        } else {
            *p++ = '%';
            *p++ = hex[c >> 4];
            *p++ = hex[c & 15];
        }
    }
    if (buf)
        *p = '\0';
    return buf;
}

int kube_wire(struct kube *k, struct kube_wire *w, enum kube_kind kind, const char *name, const char *query,
              const char *content_type, struct err *e)
{
    *w = (struct kube_wire){0};
    char *token = kube_access_token(&k->access, e), space[96] = "";
    if (!token)
        return -1;
    if (!kinds[kind].cluster)
        snprintf(space, sizeof space, "namespaces/%s/", k->access.namespace);
    int rc =
        asprintf(&w->url, "%s/%s%s/%s/%s%s%s%s%s", k->access.server, *kinds[kind].group ? "apis/" : "api",
                 kinds[kind].group, kinds[kind].version, space, kinds[kind].resource, *name ? "/" : "", name, query);
    if (rc < 0)
        w->url = NULL;
    if (rc >= 0 && *token && (rc = asprintf(&w->auth, "Authorization: Bearer %s", token)) < 0)
        w->auth = NULL;
    explicit_bzero(token, strlen(token));
    free(token);
    if (rc < 0) {
        kube_wire_free(w);
        return err_set(e, "kubernetes: out of memory");
    }
    size_t n = 0;
    /* The contents of secrets are nobody's business here. */
    w->headers[n++] = kind == KUBE_SECRETS ? "Accept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
                                           : "Accept: application/json";
    if (content_type)
        w->headers[n++] = content_type;
    if (w->auth)
        w->headers[n++] = w->auth;
    w->tls = (struct http_tls){
        .ca_file = k->access.ca_file, .cert_file = k->access.cert_file, .key_file = k->access.key_file};
    return 0;
}

void kube_wire_free(struct kube_wire *w)
{
    if (w->auth)
        explicit_bzero(w->auth, strlen(w->auth));
    free(w->auth);
    free(w->url);
    *w = (struct kube_wire){0};
}

int kube_reload(struct kube *k, struct err *e)
{
    struct kube_access a;
    if (kube_access_load(&a, k->set, NULL, e) < 0)
        return -1;
    kube_access_free(&k->former);
    k->former = k->access;
    k->access = a;
    return 0;
}

/* ---- words ---- */

bool kube_lasting(int status)
{
    return status == 400 || status == 401 || status == 403 || status == 404 || status == 405 || status == 406 ||
           status == 415 || status == 422;
}

bool kube_conflict(const struct kube_reply *r)
{
    return r->status == 409;
}

void kube_words(const struct kube *k, char *buf, size_t size, const char *what, int status, const json_t *body)
{
    const char *message = json_string_value(json_object_get(body, "message"));
    const char *to_do = "";
    if (status == 401)
        to_do = k->access.token_file ? "; is this token of this cluster, and not over?"
                                     : "; give a token or certificate of this cluster";
    else if (status == 403)
        to_do = "; give this right by a Role and RoleBinding (deploy/k8s/rollback-rbac.yaml)";
    snprintf(buf, size, "kubernetes: %s: %d%s%.400s%s", what, status, message ? ": " : "", message ? message : "",
             to_do);
}

/* ---- a call ---- */

static void free_call(struct kube_call *c)
{
    free(c->name);
    free(c->query);
    free(c->body);
    free(c);
}

static void on_timer_closed(void *ctx)
{
    free_call(ctx);
}

/* It is out of everybody's hands. */
static void end_call(struct kube_call *c)
{
    if (c->k) { /* not when its client is gone */
        *c->link = c->next;
        if (c->next)
            c->next->link = c->link;
        c->k = NULL;
    }
    loop_timer_close(&c->timer, on_timer_closed);
}

static void tell(struct kube_call *c, const struct kube_reply *r)
{
    kube_cb cb = c->cb;
    void *ctx = c->ctx;
    end_call(c);
    cb(ctx, r);
}

static void describe(const struct kube_call *c, char *buf, size_t size)
{
    snprintf(buf, size, "%s %s%s%s in %s", verbs[c->verb].method, kinds[c->kind].resource, *c->name ? "/" : "",
             c->name, c->k->access.namespace);
}

static void again(struct kube_call *c, int64_t after_ms)
{
    c->tries++;
    loop_timer_start(&c->timer, after_ms < WAIT_MAX_MS ? after_ms : WAIT_MAX_MS, 0);
}

/* Worth another try: too many requests, and what passes. */
static bool passes(const struct http_result *r)
{
    if (r->fault != HTTP_OK)
        return r->fault == HTTP_CONNECT || r->fault == HTTP_CUT || r->fault == HTTP_BAD_ANSWER;
    return r->status == 429 || r->status == 502 || r->status == 503 || r->status == 504 || r->status == 500;
}

static void on_done(void *ctx, const struct http_result *r)
{
    struct kube_call *c = ctx;
    char what[400], text[1200] = "";
    c->http = NULL;
    if (!c->k) {
        end_call(c);
        return;
    }
    if (r->fault == HTTP_OK && r->status == 401 && c->reloads < RELOADS) {
        c->reloads++;
        if (kube_reload(c->k, &c->early) == 0)
            c->early.text[0] = '\0';
        loop_timer_start(&c->timer, 0, 0);
        return;
    }
    if (passes(r) && c->tries + 1 < TRIES) {
        int64_t wait = r->retry_after_ms >= 0 ? r->retry_after_ms : BACKOFF_MS << c->tries;
        again(c, wait);
        return;
    }
    json_t *body = r->fault == HTTP_OK && r->len ? json_loadb(r->body, r->len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    bool ok = r->fault == HTTP_OK && r->status >= 200 && r->status <= 299;
    describe(c, what, sizeof what);
    if (r->fault != HTTP_OK)
        snprintf(text, sizeof text, "kubernetes: %s at %.200s: %s: %.200s", what, c->k->access.server,
                 http_fault_text(r->fault), r->error);
    else if (!ok)
        kube_words(c->k, text, sizeof text, what, r->status, body);
    else if (!json_is_object(body))
        snprintf(text, sizeof text, "kubernetes: %s: the answer is no JSON object; is %.200s an API server?", what,
                 c->k->access.server);
    struct kube_reply reply = {.ok = !*text,
                               .status = r->status,
                               .lasting = r->fault == HTTP_CERTIFICATE || kube_lasting(r->status),
                               .error = text,
                               .body = body};
    tell(c, &reply);
    json_decref(body);
}

static void send_call(struct kube_call *c)
{
    struct kube_wire w;
    if (kube_wire(c->k, &w, c->kind, c->name, c->query, verbs[c->verb].content_type, &c->early) < 0) {
        loop_timer_start(&c->timer, 0, 0);
        return;
    }
    struct http_request q = {.method = verbs[c->verb].method,
                             .url = w.url,
                             .headers = w.headers,
                             .body = c->body,
                             .body_len = c->body ? strlen(c->body) : 0,
                             .timeout_ms = c->k->set->timeout_ms,
                             .max_response = ANSWER_MAX,
                             .tls = &w.tls};
    c->http = http_start(c->k->http, &q, NULL, on_done, c);
    kube_wire_free(&w);
}

static void on_timer(void *ctx)
{
    struct kube_call *c = ctx;
    if (!*c->early.text) {
        send_call(c);
        return;
    }
    struct err why = c->early;
    tell(c, &(struct kube_reply){.lasting = true, .error = why.text});
}

static char *query_of(const struct kube_request *q)
{
    char *query = NULL, *labels = q->selector ? kube_escape(q->selector) : NULL;
    int rc = q->selector && !labels ? -1
             : labels               ? asprintf(&query, "?labelSelector=%s", labels)
                                    : asprintf(&query, "%s", q->dry ? "?dryRun=All" : "");
    free(labels);
    return rc < 0 ? NULL : query;
}

void kube_call(struct kube *k, const struct kube_request *q, kube_cb cb, void *ctx)
{
    struct kube_call *c = calloc(1, sizeof *c);
    if (!c)
        abort(); /* a callback that could not be promised would hang its owner for ever */
    c->kind = q->kind;
    c->verb = q->verb;
    c->name = strdup(q->name ? q->name : "");
    c->query = query_of(q);
    c->body = q->body ? json_dumps(q->body, JSON_COMPACT) : NULL;
    c->cb = cb;
    c->ctx = ctx;
    if (!c->name || !c->query || (q->body && !c->body))
        abort();
    c->k = k;
    c->next = k->calls;
    c->link = &k->calls;
    if (c->next)
        c->next->link = &c->next;
    k->calls = c;
    loop_timer_init(k->loop, &c->timer, on_timer, c);
    send_call(c);
}

/* ---- life ---- */

struct kube *kube_open(struct loop *l, struct http *h, const struct set_rb_kubernetes *set, struct err *e)
{
    struct kube *k = calloc(1, sizeof *k);
    if (!k) {
        err_set(e, "kubernetes: out of memory");
        return NULL;
    }
    k->loop = l;
    k->http = h;
    k->set = set;
    k->former = (struct kube_access){.memory = {-1, -1, -1}};
    if (kube_access_load(&k->access, set, NULL, e) < 0) {
        free(k);
        return NULL;
    }
    return k;
}

void kube_close(struct kube *k)
{
    if (!k)
        return;
    while (k->follows)
        kube_follow_drop(k->follows);
    while (k->calls) {
        struct kube_call *c = k->calls;
        *c->link = c->next;
        if (c->next)
            c->next->link = c->link;
        c->k = NULL;
        c->cb(c->ctx, NULL);
        if (c->http)
            http_cancel(c->http); /* on_done comes later, and ends it */
        else
            end_call(c);
    }
    kube_access_free(&k->access);
    kube_access_free(&k->former);
    free(k);
}
