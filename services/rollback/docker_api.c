/* docker_api.c - calls of a Docker Engine over its unix socket; what goes wrong comes as words that say what to do.
 *
 * The happy path: a call asks /_ping for the API's version unless it is known -> sends itself -> the answer is parsed and handed over. An
 * engine that could not be reached may come back as another one: its version is then asked for anew. */
#include "rollback/docker_api.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CALL_MS      20000
#define PING_MS      5000
#define CONNECT_MS   2000
#define RESPONSE_MAX (32U << 20) /* a list of containers may be long */
#define MINOR_LEAST  24          /* of the API: what is used here is there since then */
#define MINOR_MOST   47          /* the latest that this was written for */
#define WORDS        640

struct call {
    struct docker_api *api; /* NULL: nobody waits any more */
    struct http_call *http;
    char *method, *path, *body;
    int64_t timeout_ms;
    docker_cb cb;
    void *ctx;
    struct call *next, **link;
};
struct docker_api {
    struct http *http;
    char *socket;
    int minor; /* of the API's version; 0 = not agreed upon yet */
    char version[16];
    struct call *calls;
};

const char *docker_text(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

const char *docker_escape(const char *text, char *buf, size_t size)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p && n + 4 <= size; p++) {
        bool plain =
            (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("-._~", *p);
        if (plain) {
            buf[n++] = (char)*p;
        } else {
            buf[n++] = '%';
            buf[n++] = hex[*p >> 4];
            buf[n++] = hex[*p & 15];
        }
    }
    buf[n] = '\0';
    return buf;
}

int docker_api_agree(const char *engine)
{
    int major = 0, minor = 0;
    if (!engine || sscanf(engine, "%d.%d", &major, &minor) != 2 || major < 1)
        return 0;
    if (major > 1)
        return MINOR_MOST;
    return minor < MINOR_LEAST ? 0 : minor > MINOR_MOST ? MINOR_MOST : minor;
}

bool docker_socket_problem(const char *path, char *why, size_t size)
{
    struct stat st;
    if (stat(path, &st)) {
        if (errno == EACCES) {
            snprintf(why, size,
                     "no permission to look at %s: give this service the group of the Docker Engine's socket", path);
            return true;
        }
        snprintf(
            why, size,
            "no socket at %s: start the Docker Engine, set docker.socket, or mount the socket into this container",
            path);
        return false;
    }
    if (!S_ISSOCK(st.st_mode)) {
        snprintf(why, size, "%s is not a socket: set docker.socket to the Docker Engine's", path);
        return true;
    }
    if (access(path, R_OK | W_OK)) {
        snprintf(why, size, "no permission for %s: run this service with the group %lu that owns it", path,
                 (unsigned long)st.st_gid);
        return true;
    }
    snprintf(why, size, "nobody answers at %s: start the Docker Engine", path);
    return false;
}

/* ---- the end of a call ---- */

static void unlink_call(struct call *c)
{
    if (!c->api)
        return;
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    c->api = NULL;
}

static void free_call(struct call *c)
{
    free(c->method);
    free(c->path);
    free(c->body);
    free(c);
}

static void finish(struct call *c, const struct docker_answer *a)
{
    bool wanted = c->api;
    unlink_call(c);
    if (wanted)
        c->cb(c->ctx, a);
    free_call(c);
}

static void fail(struct call *c, const char *words, bool lasting, int status)
{
    struct docker_answer a = {.status = status, .lasting = lasting, .error = words, .body = ""};
    finish(c, &a);
}

/* No answer came. */
static void fail_unreached(struct call *c, const struct http_result *r)
{
    char why[WORDS / 2], words[WORDS];
    bool lasting = false;
    c->api->minor = 0;
    if (r->fault == HTTP_CONNECT)
        lasting = docker_socket_problem(c->api->socket, why, sizeof why);
    else
        snprintf(why, sizeof why, "%s %s by the Docker Engine at %s: %s: %s; look at its log and ask again",
                 c->method, c->path, c->api->socket, http_fault_text(r->fault), r->error);
    snprintf(words, sizeof words, "%s", why);
    fail(c, words, lasting, 0);
}

/* What to do about an answer that is an error. */
static const char *advice(int status, const char *message)
{
    if (strstr(message, "no space left on device"))
        return "; make room (docker system df)";
    if (status == 401 || status == 403)
        return "; an authorization plugin or a proxy of the socket refuses it: allow it there";
    if (status == 429 || status >= 500)
        return "; look at the engine's log";
    return "";
}

static void fail_refused(struct call *c, const struct http_result *r, const json_t *json)
{
    char words[WORDS], path[200];
    const char *message = docker_text(json, "message");
    snprintf(path, sizeof path, "%.*s", (int)strcspn(c->path, "?"), c->path);
    snprintf(words, sizeof words, "%s %.120s: %d from the Docker Engine: %.300s%s", c->method, path, r->status,
             *message ? message : "it says no more", advice(r->status, message));
    for (char *p = words; *p; p++)
        if (*p == '\n' || *p == '\r')
            *p = ' ';
    bool lasting = r->status == 400 || r->status == 401 || r->status == 403;
    fail(c, words, lasting, r->status);
}

static void on_answer(void *ctx, const struct http_result *r)
{
    struct call *c = ctx;
    c->http = NULL;
    if (!c->api) {
        free_call(c);
        return;
    }
    if (r->fault != HTTP_OK) {
        fail_unreached(c, r);
        return;
    }
    json_t *json = r->len && strncmp(r->content_type, "application/json", 16) == 0
                       ? json_loadb(r->body, r->len, JSON_DECODE_ANY, NULL)
                       : NULL;
    if ((r->status >= 200 && r->status <= 299) || r->status == 304) {
        struct docker_answer a = {.ok = true,
                                  .status = r->status,
                                  .error = "",
                                  .json = json,
                                  .body = r->body,
                                  .len = r->len,
                                  .call = r->call};
        finish(c, &a);
    } else {
        fail_refused(c, r, json);
    }
    json_decref(json);
}

/* ---- the begin of a call ---- */

static void send_call(struct call *c)
{
    char url[DOCKER_PATH + 64];
    const char *json[] = {"Content-Type: application/json", NULL};
    snprintf(url, sizeof url, "http://docker/v%s%s", c->api->version, c->path);
    struct http_request q = {.method = c->method,
                             .url = url,
                             .headers = c->body ? json : NULL,
                             .body = c->body,
                             .body_len = c->body ? strlen(c->body) : 0,
                             .connect_timeout_ms = CONNECT_MS,
                             .timeout_ms = c->timeout_ms,
                             .max_response = RESPONSE_MAX,
                             .unix_socket = c->api->socket};
    c->http = http_start(c->api->http, &q, NULL, on_answer, c);
}

static void on_ping(void *ctx, const struct http_result *r)
{
    struct call *c = ctx;
    char words[WORDS];
    c->http = NULL;
    if (!c->api) {
        free_call(c);
        return;
    }
    if (r->fault == HTTP_CUT) {
        snprintf(words, sizeof words,
                 "what answers at %s hangs up: a Docker Engine that is about to end, or something else (then set "
                 "docker.socket)",
                 c->api->socket);
        fail(c, words, false, 0);
        return;
    }
    if (r->fault != HTTP_OK && r->fault != HTTP_BAD_ANSWER) {
        fail_unreached(c, r);
        return;
    }
    const char *engine = r->fault == HTTP_OK ? http_header(r->call, "Api-Version", 0) : NULL;
    if (r->fault == HTTP_OK && r->status >= 500 && engine) {
        snprintf(words, sizeof words, "the Docker Engine at %s answers %d: look at its log", c->api->socket,
                 r->status);
        fail(c, words, false, r->status);
        return;
    }
    if (!engine) {
        snprintf(words, sizeof words, "what answers at %s is not a Docker Engine: set docker.socket to the engine's",
                 c->api->socket);
        fail(c, words, true, 0);
        return;
    }
    c->api->minor = docker_api_agree(engine);
    if (c->api->minor == 0) {
        snprintf(words, sizeof words,
                 "the Docker Engine at %s speaks API %.20s; 1.%d is the least: take a newer engine", c->api->socket,
                 engine, MINOR_LEAST);
        fail(c, words, true, 0);
        return;
    }
    snprintf(c->api->version, sizeof c->api->version, "1.%d", c->api->minor);
    send_call(c);
}

static void begin(struct call *c)
{
    if (c->api->minor > 0) {
        send_call(c);
        return;
    }
    struct http_request q = {.url = "http://docker/_ping",
                             .connect_timeout_ms = CONNECT_MS,
                             .timeout_ms = PING_MS,
                             .unix_socket = c->api->socket};
    c->http = http_start(c->api->http, &q, NULL, on_ping, c);
}

void docker_api_call(struct docker_api *a, const struct docker_request *r, docker_cb cb, void *ctx)
{
    struct call *c = calloc(1, sizeof *c);
    if (!c)
        abort(); /* a call that is promised an answer cannot be dropped */
    c->api = a;
    c->method = strdup(r->method ? r->method : "GET");
    c->path = strdup(r->path);
    c->body = r->body ? json_dumps(r->body, JSON_COMPACT) : NULL;
    if (!c->method || !c->path || (r->body && !c->body))
        abort();
    c->timeout_ms = r->timeout_ms ? r->timeout_ms : CALL_MS;
    c->cb = cb;
    c->ctx = ctx;
    c->link = &a->calls;
    c->next = a->calls;
    if (c->next)
        c->next->link = &c->next;
    a->calls = c;
    begin(c);
}

struct docker_api *docker_api_open(struct http *http, const char *socket)
{
    struct docker_api *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->http = http;
    a->socket = strdup(strncmp(socket, "unix://", 7) == 0 ? socket + 7 : socket);
    if (!a->socket) {
        free(a);
        return NULL;
    }
    return a;
}

void docker_api_close(struct docker_api *a)
{
    if (!a)
        return;
    for (struct call *c = a->calls, *next; c; c = next) {
        next = c->next;
        c->api = NULL; /* its end frees it */
        if (c->http)
            http_cancel(c->http);
    }
    free(a->socket);
    free(a);
}

const char *docker_api_version(const struct docker_api *a)
{
    return a->minor ? a->version : "";
}

const char *docker_api_socket(const struct docker_api *a)
{
    return a->socket;
}
