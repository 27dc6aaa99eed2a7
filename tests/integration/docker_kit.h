/* docker_kit.h - a Docker engine of a test's own: data, socket, processes, mounts and network go with the test, however it ends.
 *
 * The test moves into a network namespace of its own, where networks of containers are reached by their addresses and nobody else's are met; the
 * engine has namespaces for mounts and processes on top, so that its end is the end of every container and mount. All of it needs root. Open it
 * before anything else is started. */
#ifndef REDOUBT_TESTS_DOCKER_KIT_H
#define REDOUBT_TESTS_DOCKER_KIT_H

#include "../harness.h"
#include <errno.h>
#include <jansson.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define DOCKER_KIT_START_MS 60000

struct docker_kit {
    struct harness *h;
    struct harness_proc *proc;
    char socket[200];
    char program[200]; /* of docker_kit_program() */
};

static inline void docker_kit_die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("docker_kit: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

/* One exchange, waited for. The body is malloc'ed and zero-terminated; 0 = there was no answer. */
static inline int docker_kit_exchange(const struct docker_kit *k, const char *method, const char *path,
                                      const char *type, const void *body, size_t len, char **ret_body)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char head[2048], *answer = NULL;
    size_t n = 0, room = 0;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), status = 0;
    snprintf(a.sun_path, sizeof a.sun_path, "%s", k->socket);
    if (ret_body)
        *ret_body = NULL;
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a)) {
        close(fd);
        return 0;
    }
    int h = snprintf(head, sizeof head,
                     "%s %s HTTP/1.0\r\nHost: docker\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", method,
                     path, type, len);
    bool sent = send(fd, head, (size_t)h, MSG_NOSIGNAL) == h;
    for (size_t at = 0; sent && at < len;) {
        ssize_t w = send(fd, (const char *)body + at, len - at, MSG_NOSIGNAL);
        sent = w > 0;
        at += sent ? (size_t)w : 0;
    }
    for (ssize_t r = 1; sent && r > 0;) {
        if (n + 65536 > room)
            answer = realloc(answer, room += 262144);
        r = answer ? recv(fd, answer + n, 65536, 0) : -1;
        n += r > 0 ? (size_t)r : 0;
    }
    close(fd);
    if (answer) {
        answer[n] = '\0';
        char *end = strstr(answer, "\r\n\r\n");
        if (end && sscanf(answer, "HTTP/1.%*d %d", &status) == 1 && ret_body)
            *ret_body = strdup(end + 4);
    }
    free(answer);
    return status;
}

/* With JSON, which is taken over; the answer is the caller's. NULL = it is none. */
static inline json_t *docker_kit_call(const struct docker_kit *k, const char *method, const char *path, json_t *body,
                                      int *ret_status)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL, *answer;
    int status =
        docker_kit_exchange(k, method, path, "application/json", text ? text : "", text ? strlen(text) : 0, &answer);
    json_t *j = answer ? json_loads(answer, JSON_DECODE_ANY, NULL) : NULL;
    if (ret_status)
        *ret_status = status;
    else if (status < 200 || (status > 299 && status != 304))
        docker_kit_die("%s %s: %d %s", method, path, status, answer ? answer : "no answer");
    json_decref(body);
    free(text);
    free(answer);
    return j;
}

static inline void docker_kit_do(const struct docker_kit *k, const char *method, const char *path, json_t *body)
{
    json_decref(docker_kit_call(k, method, path, body, NULL));
}

static inline bool docker_kit_answers(void *ctx)
{
    const struct docker_kit *k = ctx;
    return docker_kit_exchange(k, "GET", "/_ping", "text/plain", "", 0, NULL) == 200 || !harness_alive(k->proc);
}

static inline bool docker_kit_has(const char *program)
{
    static const char *const dirs[] = {"/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"};
    char path[256];
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        snprintf(path, sizeof path, "%s/%s", dirs[i], program);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

static inline bool docker_kit_alone(char *why, size_t size)
{
    struct ifreq r = {.ifr_flags = IFF_UP};
    if (unshare(CLONE_NEWNET)) {
        snprintf(why, size, "no network namespace of its own: %s", strerror(errno));
        return false;
    }
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(r.ifr_name, sizeof r.ifr_name, "lo");
    bool up = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &r) == 0;
    close(fd);
    if (!up)
        snprintf(why, size, "the loopback of its own cannot be started: %s", strerror(errno));
    return up;
}

static inline bool docker_kit_start(struct docker_kit *k, char *why, size_t size)
{
    harness_start(k->proc);
    harness_until(docker_kit_answers, k, DOCKER_KIT_START_MS);
    if (docker_kit_exchange(k, "GET", "/_ping", "text/plain", "", 0, NULL) == 200)
        return true;
    snprintf(why, size, "the engine does not start here; its log is %s.log in the test's directory with KEEP=1",
             k->proc->name);
    return false;
}

/* NULL with the reason: then the test is to be skipped, visibly. */
static inline struct docker_kit *docker_kit_open(struct harness *h, char *why, size_t size)
{
    if (geteuid() != 0) {
        snprintf(why, size, "an engine of one's own needs root");
        return NULL;
    }
    if (!docker_kit_has("dockerd") || !docker_kit_has("containerd") || !docker_kit_has("unshare")) {
        snprintf(why, size, "dockerd, containerd or unshare is not installed: apt-get install docker.io util-linux");
        return NULL;
    }
    struct docker_kit *k = calloc(1, sizeof *k);
    if (!k || !docker_kit_alone(why, size)) {
        free(k);
        return NULL;
    }
    char data[220], exec[220], host[220], pid[220], path[4096];
    const char *dir = harness_dir(h), *was = getenv("PATH");
    snprintf(path, sizeof path, "%s:/usr/sbin:/sbin", was ? was : "/usr/bin:/bin");
    setenv("PATH", path, 1);
    k->h = h;
    snprintf(k->socket, sizeof k->socket, "%s/d.sock", dir);
    snprintf(host, sizeof host, "unix://%s", k->socket);
    snprintf(data, sizeof data, "%s/docker-data", dir);
    snprintf(exec, sizeof exec, "%s/docker-exec", dir);
    snprintf(pid, sizeof pid, "%s/docker.pid", dir);
    const char *argv[] = {"unshare",
                          "--mount",
                          "--pid",
                          "--fork",
                          "--kill-child",
                          "--mount-proc",
                          "dockerd",
                          "--host",
                          host,
                          "--data-root",
                          data,
                          "--exec-root",
                          exec,
                          "--pidfile",
                          pid,
                          "--bridge=none",
                          "--iptables=false",
                          "--ip6tables=false",
                          "--log-level=warn",
                          NULL};
    k->proc = harness_run_later(h, "dockerd", 0, argv);
    if (docker_kit_start(k, why, size))
        return k;
    harness_kill(k->proc);
    free(k);
    return NULL;
}

/* As a host that has lost its power: every container has ended, what restarts by its policy does. */
static inline void docker_kit_restart(struct docker_kit *k)
{
    char why[300], path[300];
    harness_kill(k->proc);
    snprintf(path, sizeof path, "rm -rf %s/docker-exec %s/docker.pid %s", harness_dir(k->h), harness_dir(k->h),
             k->socket);
    if (system(path) != 0 || !docker_kit_start(k, why, sizeof why))
        docker_kit_die("after a restart: %s", why);
}

/* A static program, from C source, that images are made of. False with the reason. */
static inline bool docker_kit_program(struct docker_kit *k, const char *source, char *why, size_t size)
{
    char c[300], command[1000];
    snprintf(c, sizeof c, "%s/agent.c", harness_dir(k->h));
    snprintf(k->program, sizeof k->program, "%s/agent", harness_dir(k->h));
    FILE *f = fopen(c, "we");
    if (!f)
        docker_kit_die("cannot write %s", c);
    fputs(source, f);
    fclose(f);
    snprintf(command, sizeof command, "cc -O1 -static -o %s %s 2>&1 || gcc -O1 -static -o %s %s", k->program, c,
             k->program, c);
    if (system(command) == 0)
        return true;
    snprintf(why, size, "a static program cannot be compiled here");
    return false;
}

/* An image of /agent alone. `changes` is a query as of POST /images/create: "&changes=LABEL%20a%3Db...". Its id in a buffer of 80. */
static inline const char *docker_kit_image(struct docker_kit *k, const char *repo, const char *tag,
                                           const char *changes, char id[80])
{
    char command[900], path[2000], tar[300], *answer;
    snprintf(tar, sizeof tar, "%s/image.tar", harness_dir(k->h));
    /* Another time in the archive is another image. */
    snprintf(command, sizeof command, "tar -C %s --mtime=@%u -cf %s agent", harness_dir(k->h),
             1000000000U + (unsigned)tag[strlen(tag) - 1], tar);
    FILE *f = system(command) == 0 ? fopen(tar, "re") : NULL;
    struct stat st;
    if (!f || fstat(fileno(f), &st))
        docker_kit_die("cannot make %s", tar);
    char *bytes = malloc((size_t)st.st_size);
    if (!bytes || fread(bytes, 1, (size_t)st.st_size, f) != (size_t)st.st_size)
        docker_kit_die("cannot read %s", tar);
    fclose(f);
    snprintf(path, sizeof path, "/images/create?fromSrc=-&repo=%s&tag=%s%s", repo, tag, changes);
    int status = docker_kit_exchange(k, "POST", path, "application/x-tar", bytes, (size_t)st.st_size, &answer);
    const char *sha = answer ? strstr(answer, "sha256:") : NULL;
    if (status != 200 || !sha)
        docker_kit_die("the image %s:%s: %d %s", repo, tag, status, answer ? answer : "");
    snprintf(id, 80, "%.71s", sha);
    free(bytes);
    free(answer);
    return id;
}

static inline void docker_kit_network(struct docker_kit *k, const char *name, const char *subnet)
{
    docker_kit_do(k, "POST", "/networks/create",
                  json_pack("{ss s{s[{ss}]}}", "Name", name, "IPAM", "Config", "Subnet", subnet));
}

static inline void docker_kit_close(struct docker_kit *k)
{
    if (!k)
        return;
    harness_kill(k->proc);
    free(k);
}

#endif
