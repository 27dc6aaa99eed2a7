/* alert_receiver.h - where alerts end in benchmarks: a webhook in a process of its own, that writes down when each alert came.
 *
 * Alerts are called bench-<number of six digits>; the first time that a number is seen in a body counts, whatever the body's form is. Of a digest
 * (our own form) the number of alerts that it stands for is summed up. */
#ifndef REDOUBT_TESTS_ALERT_RECEIVER_H
#define REDOUBT_TESTS_ALERT_RECEIVER_H

#include "bench.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECEIVER_ALERTS = 1000000, RECEIVER_FDS = 4096, RECEIVER_BODY = 4 << 20 };
#define RECEIVER_NAME "bench-"

struct receiver_seen {
    _Atomic uint64_t alerts;   /* different ones */
    _Atomic uint64_t calls;    /* requests */
    _Atomic uint64_t digests;  /* requests with a digest */
    _Atomic uint64_t digested; /* what they stand for */
    _Atomic int64_t ns[RECEIVER_ALERTS];
};

static struct receiver_seen *receiver_map(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *at = MAP_FAILED;
    if (fd >= 0 && ftruncate(fd, sizeof(struct receiver_seen)) == 0)
        at = mmap(NULL, sizeof(struct receiver_seen), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        perror(path);
        exit(1);
    }
    close(fd);
    return at;
}

static void receiver_digest(struct receiver_seen *s, const char *body, size_t len)
{
    json_t *j = json_loadb(body, len, 0, NULL);
    const char *kind = json_string_value(json_object_get(j, "kind"));
    if (kind && strcmp(kind, "one") != 0) {
        atomic_fetch_add(&s->digests, 1);
        atomic_fetch_add(&s->digested, (uint64_t)json_integer_value(json_object_get(j, "total")));
    }
    json_decref(j);
}

static void receiver_take(struct receiver_seen *s, const char *body, size_t len)
{
    int64_t now = bench_ns();
    const char *p = body, *end = body + len;
    atomic_fetch_add(&s->calls, 1);
    while ((p = memmem(p, (size_t)(end - p), RECEIVER_NAME, sizeof RECEIVER_NAME - 1))) {
        p += sizeof RECEIVER_NAME - 1;
        if (end - p < 6)
            break;
        unsigned n = 0;
        for (int i = 0; i < 6; i++)
            n = n * 10 + (unsigned)(p[i] - '0');
        int64_t none = 0;
        if (n < RECEIVER_ALERTS && atomic_compare_exchange_strong(&s->ns[n], &none, now))
            atomic_fetch_add(&s->alerts, 1);
    }
    if (memmem(body, len < 512 ? len : 512, "\"digest\"", 8))
        receiver_digest(s, body, len);
}

struct receiver_fd {
    size_t len;
    char *buf;
};

/* Takes whole requests off the buffer. False: the connection is over. */
static bool receiver_requests(int fd, struct receiver_fd *x, struct receiver_seen *s)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";
    for (;;) {
        const char *head_end = memmem(x->buf, x->len, "\r\n\r\n", 4);
        if (!head_end)
            return x->len < RECEIVER_BODY;
        size_t head = (size_t)(head_end - x->buf) + 4, body = 0;
        for (const char *l = x->buf; l < head_end; l = (const char *)memchr(l, '\n', head) + 1)
            if (strncasecmp(l, "content-length:", 15) == 0)
                body = strtoul(l + 15, NULL, 10);
        if (head + body > RECEIVER_BODY)
            return false;
        if (x->len < head + body)
            return true;
        receiver_take(s, x->buf + head, body);
        x->len -= head + body;
        memmove(x->buf, x->buf + head + body, x->len);
        if (write(fd, answer, sizeof answer - 1) < 0)
            return false;
    }
}

/* argv: FILE PORT. Never returns. */
static int receiver_main(char **argv)
{
    static struct receiver_fd *fds[RECEIVER_FDS];
    struct receiver_seen *s = receiver_map(argv[0]);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l < 0 || epoll < 0 || setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(l, (struct sockaddr *)&a, sizeof a) < 0 || listen(l, 1024) < 0) {
        perror("receiver");
        return 1;
    }
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = l};
    epoll_ctl(epoll, EPOLL_CTL_ADD, l, &ev);
    for (;;) {
        struct epoll_event got[64];
        int n = epoll_wait(epoll, got, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = got[i].data.fd;
            if (fd == l) {
                int c = accept4(l, NULL, NULL, SOCK_CLOEXEC);
                struct receiver_fd *x = c >= 0 && c < RECEIVER_FDS ? calloc(1, sizeof *x) : NULL;
                if (!x || !(x->buf = malloc(RECEIVER_BODY))) /* pages that are not touched cost nothing */
                    return 1;
                setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                fds[c] = x;
                epoll_ctl(epoll, EPOLL_CTL_ADD, c, &(struct epoll_event){.events = EPOLLIN, .data.fd = c});
                continue;
            }
            struct receiver_fd *x = fds[fd];
            ssize_t r = read(fd, x->buf + x->len, RECEIVER_BODY - x->len);
            x->len += r > 0 ? (size_t)r : 0;
            if (r <= 0 || !receiver_requests(fd, x, s)) {
                free(x->buf);
                free(x);
                fds[fd] = NULL;
                close(fd);
            }
        }
    }
}

#endif
