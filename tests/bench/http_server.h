/* http_server.h - a tiny HTTP server for benchmarks, a process of its own: one thread, epoll, one fixed answer.
 *
 * It listens on 127.0.1.1, 127.0.1.2, ... (so that every target can be a host of its own) and on several ports; what came in on each
 * port is counted in a file that the benchmark maps, too. On a port that closes, each connection carries one request. */
#ifndef REDOUBT_TESTS_HTTP_SERVER_H
#define REDOUBT_TESTS_HTTP_SERVER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HTTP_SERVER_PORTS = 8, HTTP_SERVER_FDS = 16384, HTTP_SERVER_HEAD = 1024 };

struct http_server_counts {
    _Atomic uint64_t requests[HTTP_SERVER_PORTS];
};

/* Maps the counts; both sides call it. */
static struct http_server_counts *http_server_counts(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct http_server_counts)) < 0) {
        perror(path);
        exit(1);
    }
    void *at = mmap(NULL, sizeof(struct http_server_counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return at;
}

static const char *http_server_address(unsigned i, char buf[static 32])
{
    snprintf(buf, 32, "127.0.%u.%u", 1 + i / 250, 1 + i % 250);
    return buf;
}

static int http_server_listen(unsigned address, int port)
{
    char text[32];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, http_server_address(address, text), &a.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 1024) < 0) {
        perror("http server");
        exit(1);
    }
    return fd;
}

struct http_server_fd {
    bool listens, closes;
    unsigned port; /* its number, for the counts */
    size_t len;
    char head[HTTP_SERVER_HEAD];
};

static void http_server_add(int epoll, struct http_server_fd **fds, int fd, struct http_server_fd x)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
    if (fd >= HTTP_SERVER_FDS || !(fds[fd] = malloc(sizeof x)) || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
        fprintf(stderr, "http server: too many connections\n");
        exit(1);
    }
    *fds[fd] = x;
}

/* False: the connection is over. */
static bool http_server_talk(int fd, struct http_server_fd *x, struct http_server_counts *counts)
{
    static const char keeps[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";
    static const char closes[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    ssize_t n = read(fd, x->head + x->len, sizeof x->head - x->len);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    x->len += (size_t)n;
    if (!memmem(x->head, x->len, "\r\n\r\n", 4))
        return x->len < sizeof x->head;
    x->len = 0;
    atomic_fetch_add_explicit(&counts->requests[x->port], 1, memory_order_relaxed);
    const char *answer = x->closes ? closes : keeps;
    return write(fd, answer, strlen(answer)) > 0 && !x->closes;
}

/* argv: COUNTS_FILE ADDRESSES PORT... ; a port written with a minus closes. Never returns. */
static int http_server_main(int argc, char **argv)
{
    struct http_server_counts *counts = http_server_counts(argv[0]);
    unsigned addresses = (unsigned)atoi(argv[1]);
    struct http_server_fd **fds = calloc(HTTP_SERVER_FDS, sizeof(struct http_server_fd *));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!fds || epoll < 0)
        return 1;
    for (int i = 2; i < argc; i++)
        for (unsigned k = 0; k < addresses; k++)
            http_server_add(
                epoll, fds, http_server_listen(k, abs(atoi(argv[i]))),
                (struct http_server_fd){.listens = true, .closes = argv[i][0] == '-', .port = (unsigned)i - 2});
    for (;;) {
        struct epoll_event ev[256];
        int n = epoll_wait(epoll, ev, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = ev[i].data.fd;
            struct http_server_fd *x = fds[fd];
            if (x->listens) {
                int c = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
                if (c < 0)
                    continue;
                setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                http_server_add(epoll, fds, c, (struct http_server_fd){.closes = x->closes, .port = x->port});
            } else if (!http_server_talk(fd, x, counts)) {
                free(x);
                close(fd);
            }
        }
    }
}

#endif
