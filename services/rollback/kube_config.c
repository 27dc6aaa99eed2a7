/* kube_config.c - reads a kubeconfig by libyaml, or what a pod is given; keeps inline certificates in memory only. */
#include "rollback/kube_config.h"
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#define FILE_MAX  (1 << 20)
#define DEPTH_MAX 32
#define NODES_MAX 50000 /* aliases are expanded: a small file must not become a big one */
#define POD_DIR   "/var/run/secrets/kubernetes.io/serviceaccount"

/* ---- files ---- */

/* malloc'ed, zero-terminated; NULL with the text in e. */
static char *slurp(const char *path, size_t *ret_len, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
        err_set(e, "%s: %s", path, fd < 0 ? strerror(errno) : "allowed: a file of up to 1 MiB");
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    char *text = malloc(FILE_MAX + 1);
    size_t len = 0;
    ssize_t n = 0;
    while (text && len < FILE_MAX && (n = read(fd, text + len, FILE_MAX - len)) > 0)
        len += (size_t)n;
    close(fd);
    if (!text || n < 0) {
        err_set(e, "%s: %s", path, text ? "cannot be read" : "out of memory");
        free(text);
        return NULL;
    }
    text[len] = '\0';
    *ret_len = len;
    return text;
}

static void forget(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

/* ---- YAML ---- */

static json_t *node_json(yaml_document_t *doc, const yaml_node_t *node, int depth, int *budget)
{
    if (!node || depth > DEPTH_MAX || --*budget < 0)
        return NULL;
    if (node->type == YAML_SCALAR_NODE)
        return json_stringn((const char *)node->data.scalar.value, node->data.scalar.length);
    json_t *j = node->type == YAML_SEQUENCE_NODE ? json_array() : json_object();
    bool ok = j != NULL;
    if (node->type == YAML_SEQUENCE_NODE) {
        for (const yaml_node_item_t *i = node->data.sequence.items.start; ok && i < node->data.sequence.items.top;
             i++)
            ok = json_array_append_new(j, node_json(doc, yaml_document_get_node(doc, *i), depth + 1, budget)) == 0;
    } else {
        for (const yaml_node_pair_t *p = node->data.mapping.pairs.start; ok && p < node->data.mapping.pairs.top;
             p++) {
            const yaml_node_t *key = yaml_document_get_node(doc, p->key);
            ok = key && key->type == YAML_SCALAR_NODE &&
                 json_object_set_new(j, (const char *)key->data.scalar.value,
                                     node_json(doc, yaml_document_get_node(doc, p->value), depth + 1, budget)) == 0;
        }
    }
    if (!ok) {
        json_decref(j);
        return NULL;
    }
    return j;
}

json_t *kube_yaml(const char *text, size_t len, struct err *e)
{
    yaml_parser_t p;
    yaml_document_t doc;
    int budget = NODES_MAX;
    if (!yaml_parser_initialize(&p)) {
        err_set(e, "out of memory");
        return NULL;
    }
    yaml_parser_set_input_string(&p, (const unsigned char *)text, len);
    if (!yaml_parser_load(&p, &doc)) {
        err_set(e, "line %zu: not YAML: %s", p.problem_mark.line + 1, p.problem ? p.problem : "cannot be read");
        yaml_parser_delete(&p);
        return NULL;
    }
    json_t *j = node_json(&doc, yaml_document_get_root_node(&doc), 0, &budget);
    if (!j)
        err_set(e, "is empty, too deep or too large, or has text that is not UTF-8");
    yaml_document_delete(&doc);
    yaml_parser_delete(&p);
    return j;
}

/* ---- pieces ---- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *t = json_string_value(json_object_get(o, key));
    return t ? t : "";
}

static bool truth(const json_t *o, const char *key)
{
    return strcasecmp(text_of(o, key), "true") == 0;
}

/* clusters: [{name, cluster: {...}}] */
static const json_t *named(const json_t *root, const char *list, const char *item, const char *name)
{
    const json_t *a = json_object_get(root, list);
    for (size_t i = 0; i < json_array_size(a); i++) {
        const json_t *o = json_array_get(a, i);
        if (strcmp(text_of(o, "name"), name) == 0)
            return json_object_get(o, item);
    }
    return NULL;
}

/* Paths are relative to the kubeconfig. */
static int set_path(char **ret, const char *kubeconfig, const char *path, struct err *e)
{
    const char *slash = strrchr(kubeconfig, '/');
    int dir = *path != '/' && slash ? (int)(slash - kubeconfig + 1) : 0;
    free(*ret);
    return asprintf(ret, "%.*s%s", dir, kubeconfig, path) < 0 ? (*ret = NULL, err_set(e, "out of memory")) : 0;
}

static int sextet(unsigned char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Decodes in place; the length, or -1. */
static ssize_t unbase64(char *text)
{
    unsigned bits = 0, held = 0;
    size_t n = 0;
    const char *s = text;
    for (; *s && *s != '='; s++) {
        if (strchr(" \t\r\n", *s))
            continue;
        int v = sextet((unsigned char)*s);
        if (v < 0)
            return -1;
        bits = bits << 6 | (unsigned)v;
        held += 6;
        if (held >= 8) {
            held -= 8;
            text[n++] = (char)(bits >> held & 0xff);
        }
    }
    return s[strspn(s, "= \t\r\n")] == '\0' ? (ssize_t)n : -1;
}

/* TLS wants files; keys stay off the disk all the same: a file in memory. Its name is a new one each time, as connections and authorities
 * are kept by the name of the file, and descriptors come again. */
static int set_memory(struct kube_access *a, size_t slot, char **ret, const char *key, const char *base64,
                      struct err *e)
{
    static _Atomic unsigned turn;
    char *data = strdup(base64), path[1200] = "/proc/self/fd/";
    ssize_t len = data ? unbase64(data) : -1;
    if (len <= 0) {
        forget(data);
        return err_set(e, "%s is not base64", key);
    }
    int fd = memfd_create("kubeconfig", MFD_CLOEXEC);
    bool ok = fd >= 0 && write(fd, data, (size_t)len) == len;
    explicit_bzero(data, (size_t)len);
    free(data);
    if (!ok) {
        if (fd >= 0)
            close(fd);
        return err_set(e, "%s cannot be kept in memory: %s", key, strerror(errno));
    }
    size_t at = strlen(path);
    for (unsigned n = atomic_fetch_add(&turn, 1) % 500; n > 0; n--, at += 2)
        memcpy(path + at, "./", 3);
    snprintf(path + at, sizeof path - at, "%d", fd);
    if (a->memory[slot] >= 0)
        close(a->memory[slot]);
    a->memory[slot] = fd;
    free(*ret);
    *ret = strdup(path);
    return *ret ? 0 : err_set(e, "out of memory");
}

static int set_pem(struct kube_access *a, size_t slot, char **ret, const char *kubeconfig, const json_t *o,
                   const char *key, struct err *e)
{
    char data_key[64];
    snprintf(data_key, sizeof data_key, "%s-data", key);
    if (*text_of(o, data_key))
        return set_memory(a, slot, ret, data_key, text_of(o, data_key), e);
    return *text_of(o, key) ? set_path(ret, kubeconfig, text_of(o, key), e) : 0;
}

static int copy(char **ret, const char *text, struct err *e)
{
    forget(*ret);
    *ret = strdup(text);
    return *ret ? 0 : err_set(e, "out of memory");
}

static int set_server(struct kube_access *a, const char *url, struct err *e)
{
    size_t n = strlen(url);
    while (n > 0 && url[n - 1] == '/')
        n--;
    if (n >= sizeof a->server)
        return err_set(e, "server: longer than %zu bytes", sizeof a->server - 1);
    snprintf(a->server, sizeof a->server, "%.*s", (int)n, url);
    return 0;
}

/* ---- a kubeconfig ---- */

static const struct {
    const char *list; /* of which object: cluster or user */
    const char *key, *why;
} refused[] = {
    {"user", "exec", "runs a program; use a ServiceAccount's token (`kubectl create token`) in tokenFile"},
    {"user", "auth-provider", "runs a program; use a ServiceAccount's token in tokenFile"},
    {"user", "username", "is a password, which the API does not take any more; use a token or a certificate"},
    {"user", "as", "acts as somebody else; give this user the rights"},
    {"cluster", "proxy-url", "is not supported; name a server that can be reached"},
    {"cluster", "tls-server-name", "is not supported; use a name of the server's certificate in `server`"},
};

static int check_refused(const char *list, const json_t *o, struct err *e)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (strcmp(refused[i].list, list) == 0 && json_object_get(o, refused[i].key))
            return err_set(e, "`%s` of the %s %s", refused[i].key, list, refused[i].why);
    return 0;
}

static int read_user(struct kube_access *a, const char *path, const json_t *user, struct err *e)
{
    if (check_refused("user", user, e) < 0)
        return -1;
    if (*text_of(user, "token") && copy(&a->token, text_of(user, "token"), e) < 0)
        return -1;
    if (*text_of(user, "tokenFile") && set_path(&a->token_file, path, text_of(user, "tokenFile"), e) < 0)
        return -1;
    if (set_pem(a, 1, &a->cert_file, path, user, "client-certificate", e) < 0 ||
        set_pem(a, 2, &a->key_file, path, user, "client-key", e) < 0)
        return -1;
    return !a->cert_file == !a->key_file ? 0 : err_set(e, "client-certificate and client-key belong together");
}

static int read_context(struct kube_access *a, const char *path, const char *wanted, const json_t *root,
                        struct err *e)
{
    const char *name = *wanted ? wanted : text_of(root, "current-context");
    const json_t *context = named(root, "contexts", "context", name);
    if (!context)
        return err_set(e, "has no context `%s`; set kubernetes.context to one of its own", name);
    const json_t *cluster = named(root, "clusters", "cluster", text_of(context, "cluster"));
    if (!cluster)
        return err_set(e, "has no cluster `%s`, which context `%s` names", text_of(context, "cluster"), name);
    if (truth(cluster, "insecure-skip-tls-verify"))
        return err_set(e, "insecure-skip-tls-verify would trust anybody; give certificate-authority instead");
    if (check_refused("cluster", cluster, e) < 0 || set_server(a, text_of(cluster, "server"), e) < 0 ||
        set_pem(a, 0, &a->ca_file, path, cluster, "certificate-authority", e) < 0)
        return -1;
    if (strlen(text_of(context, "namespace")) >= sizeof a->namespace)
        return err_set(e, "namespace of context `%s`: longer than 63 bytes", name);
    snprintf(a->namespace, sizeof a->namespace, "%s", text_of(context, "namespace"));
    const char *who = text_of(context, "user");
    const json_t *user = *who ? named(root, "users", "user", who) : NULL;
    if (*who && !user)
        return err_set(e, "has no user `%s`, which context `%s` names", who, name);
    return user ? read_user(a, path, user, e) : 0;
}

static int read_kubeconfig(struct kube_access *a, const struct set_rb_kubernetes *set, struct err *e)
{
    struct err why = {""};
    size_t len = 0;
    char *text = slurp(set->kubeconfig, &len, &why);
    if (!text)
        return err_set(e, "kubernetes.kubeconfig: %.400s", why.text);
    json_t *root = kube_yaml(text, len, &why);
    explicit_bzero(text, len);
    free(text);
    int rc = root ? read_context(a, set->kubeconfig, set->context, root, &why) : -1;
    json_decref(root);
    return rc < 0 ? err_set(e, "kubernetes.kubeconfig: %s: %.400s", set->kubeconfig, why.text) : 0;
}

/* ---- a pod ---- */

static int pod_file(char **ret, const char *dir, const char *name)
{
    if (asprintf(ret, "%s/%s", dir, name) < 0) {
        *ret = NULL;
        return -1;
    }
    if (access(*ret, R_OK) < 0) {
        free(*ret);
        *ret = NULL;
    }
    return 0;
}

static int read_pod(struct kube_access *a, const char *dir, struct err *e)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
    char *space = NULL;
    size_t len = 0;
    if (host && *host) {
        bool six = strchr(host, ':') != NULL;
        snprintf(a->server, sizeof a->server, "https://%s%s%s:%s", six ? "[" : "", host, six ? "]" : "",
                 port && *port ? port : "443");
    }
    if (pod_file(&a->token_file, dir, "token") < 0 || pod_file(&a->ca_file, dir, "ca.crt") < 0 ||
        pod_file(&space, dir, "namespace") < 0)
        return err_set(e, "out of memory");
    char *text = space ? slurp(space, &len, NULL) : NULL;
    if (text && len < sizeof a->namespace) {
        text[strcspn(text, " \r\n")] = '\0';
        snprintf(a->namespace, sizeof a->namespace, "%s", text);
    }
    free(text);
    free(space);
    return 0;
}

/* ---- all of it ---- */

/* A token sent in the clear belongs to whoever listens. */
static int check_server(const struct kube_access *a, struct err *e)
{
    static const char *const own[] = {"http://127.0.0.1:", "http://localhost:", "http://[::1]:"};
    if (!*a->server)
        return err_set(
            e, "kubernetes: no server: set kubernetes.server or kubernetes.kubeconfig, or run in a pod that has a "
               "ServiceAccount");
    if (strncmp(a->server, "https://", 8) == 0)
        return 0;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strncmp(a->server, own[i], strlen(own[i])) == 0)
            return 0;
    return err_set(e, "kubernetes: server `%s`; allowed: https://, or http:// to this machine itself (kubectl proxy)",
                   a->server);
}

static int load(struct kube_access *a, const struct set_rb_kubernetes *set, const char *pod_dir, struct err *e)
{
    bool file = *set->kubeconfig;
    if ((file ? read_kubeconfig(a, set, e) : read_pod(a, pod_dir, e)) < 0)
        return -1;
    if (*set->server && set_server(a, set->server, e) < 0)
        return -1;
    if (*set->ca_file && copy(&a->ca_file, set->ca_file, e) < 0)
        return -1;
    if (*set->token_file && copy(&a->token_file, set->token_file, e) < 0)
        return -1;
    if (*set->namespace)
        snprintf(a->namespace, sizeof a->namespace, "%s", set->namespace);
    if (!*a->namespace)
        snprintf(a->namespace, sizeof a->namespace, "default");
    return check_server(a, e);
}

int kube_access_load(struct kube_access *ret, const struct set_rb_kubernetes *set, const char *pod_dir, struct err *e)
{
    struct kube_access a = {.memory = {-1, -1, -1}};
    if (load(&a, set, pod_dir ? pod_dir : POD_DIR, e) < 0) {
        kube_access_free(&a);
        return -1;
    }
    *ret = a;
    return 0;
}

void kube_access_free(struct kube_access *a)
{
    forget(a->token);
    free(a->token_file);
    free(a->ca_file);
    free(a->cert_file);
    free(a->key_file);
    for (size_t i = 0; i < sizeof a->memory / sizeof *a->memory; i++)
        if (a->memory[i] >= 0)
            close(a->memory[i]);
    *a = (struct kube_access){.memory = {-1, -1, -1}};
}

char *kube_access_token(const struct kube_access *a, struct err *e)
{
    if (!a->token_file) {
        char *t = strdup(a->token ? a->token : "");
        if (!t)
            err_set(e, "out of memory");
        return t;
    }
    struct err why = {""};
    size_t len = 0;
    char *t = slurp(a->token_file, &len, &why);
    if (!t) {
        err_set(e, "kubernetes: the token: %.400s", why.text);
        return NULL;
    }
    while (len > 0 && strchr(" \r\n\t", t[len - 1]))
        t[--len] = '\0';
    if (len == 0 || strlen(t) != len || strpbrk(t, " \r\n\t")) {
        err_set(e, "kubernetes: %s: is no token; allowed: one word", a->token_file);
        forget(t);
        return NULL;
    }
    return t;
}
