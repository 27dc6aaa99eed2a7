/* test_rollback_haproxy.c - traffic by a real HAProxy's runtime API, with requests running: shares, order, what is refused, a restart. */
#include "traffic_kit.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define BACKENDS 4 /* two of either side */

struct proxy {
    struct harness_proc *proc;
    int front, tcp, back[BACKENDS];
    pid_t backends;
    char sock[200], oper[200];
};

/* ---- the agents: a process that answers with the number of the port it was asked on ---- */

static void answer_for_ever(const int fd[BACKENDS])
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        struct pollfd p[BACKENDS];
        for (int i = 0; i < BACKENDS; i++)
            p[i] = (struct pollfd){.fd = fd[i], .events = POLLIN};
        if (poll(p, BACKENDS, -1) < 0)
            continue;
        for (int i = 0; i < BACKENDS; i++) {
            char buf[2048], out[128];
            int c = p[i].revents ? accept(fd[i], NULL, NULL) : -1;
            if (c < 0)
                continue;
            struct timeval limit = {.tv_sec = 2};
            setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
            if (recv(c, buf, sizeof buf, 0) > 0) {
                int n = snprintf(out, sizeof out,
                                 "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n%d", i);
                (void)!write(c, out, (size_t)n);
                shutdown(c, SHUT_WR);
                while (recv(c, buf, sizeof buf, 0) > 0) {
                }
            }
            close(c);
        }
    }
}

static void start_backends(struct proxy *x)
{
    int fd[BACKENDS];
    for (int i = 0; i < BACKENDS; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof a;
        fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd[i], (struct sockaddr *)&a, sizeof a), 0);
        assert_int_equal(listen(fd[i], 64), 0);
        getsockname(fd[i], (struct sockaddr *)&a, &len);
        x->back[i] = ntohs(a.sin_port);
    }
    x->backends = fork();
    if (x->backends == 0)
        answer_for_ever(fd);
    for (int i = 0; i < BACKENDS; i++)
        close(fd[i]);
}

/* ---- HAProxy ---- */

static void start_proxy(struct town *t, const char *balance, const char *check)
{
    struct proxy *x = t->more = calloc(1, sizeof *x);
    char path[200];
    start_backends(x);
    x->front = harness_free_port();
    x->tcp = harness_free_port();
    snprintf(x->sock, sizeof x->sock, "%s/admin.sock", harness_dir(t->h));
    snprintf(x->oper, sizeof x->oper, "%s/oper.sock", harness_dir(t->h));
    snprintf(path, sizeof path, "%s/haproxy.cfg", harness_dir(t->h));
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fprintf(f,
            "global\n  stats socket %s mode 600 level admin\n  stats socket %s mode 600 level operator\n"
            "  stats socket ipv4@127.0.0.1:%d level admin\n"
            "defaults\n  mode http\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n  retries 0\n"
            "frontend f\n  bind 127.0.0.1:%d\n  default_backend agents\n"
            "backend agents\n  balance %s\n  default-server %s\n"
            "  server a0 127.0.0.1:1 weight 100\n  server a1 127.0.0.1:1 weight 0 disabled\n"
            "  server b0 127.0.0.1:1 weight 0 disabled\n  server b1 127.0.0.1:1 weight 0 disabled\n"
            "backend strange\n  server a0 127.0.0.1:1\n  server b0 127.0.0.1:1 weight 0\n  server c0 127.0.0.1:1\n",
            x->sock, x->oper, x->tcp, x->front, balance, check);
    fclose(f);
    /* The second port of the frontend tells when it serves. */
    const char *argv[] = {"haproxy", "-db", "-f", path, NULL};
    x->proc = harness_run(t->h, "haproxy", x->front, argv);
}

static int haproxy_teardown(void **state)
{
    struct proxy *x = ((struct town *)*state)->more;
    if (x) {
        kill(x->backends, SIGKILL);
        waitpid(x->backends, NULL, 0);
    }
    free(x);
    return town_teardown(state);
}

/* One request through HAProxy: which backend has answered, -1 = none. */
static int request(const struct proxy *x)
{
    static const char ask[] = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)x->front), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 8};
    char buf[2048];
    size_t len = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), which = -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0 && write(fd, ask, sizeof ask - 1) == sizeof ask - 1)
        for (ssize_t n; len < sizeof buf - 1 && (n = recv(fd, buf + len, sizeof buf - 1 - len, 0)) > 0;)
            len += (size_t)n;
    close(fd);
    buf[len] = '\0';
    const char *body = strstr(buf, "\r\n\r\n");
    if (strncmp(buf, "HTTP/1.1 200", 12) == 0 && body && body[4] >= '0' && body[4] < '0' + BACKENDS)
        which = body[4] - '0';
    return which;
}

static void measure(const struct proxy *x, int n, int seen[BACKENDS])
{
    memset(seen, 0, BACKENDS * sizeof *seen);
    for (int i = 0; i < n; i++) {
        int which = request(x);
        if (which < 0)
            fail_msg("request %d of %d has failed", i, n);
        seen[which]++;
    }
}

#define BOTH "side_0: [a0, a1], side_1: [b0, b1]"

static void open_it(struct town *t)
{
    struct proxy *x = t->more;
    town_traffic(t, &traffic_haproxy, "type: haproxy, address: 'unix://%s', backend: agents, " BOTH, x->sock);
}

static void test_steps(void **state)
{
    struct town *t = *state;
    static const int steps[] = {100, 50, 25, 10, 0};
    int seen[BACKENDS];
    start_proxy(t, "roundrobin", "check inter 200ms");
    struct proxy *x = t->more;
    open_it(t);
    TOWN_OK(t, town_check(t));
    TOWN_OK(t, town_view(t));
    assert_int_equal(t->share[0], 100);
    struct executor_instance at[3];
    at[0] = town_instance(0, "127.0.0.1", x->back[0], true);
    at[1] = town_instance(1, "127.0.0.1", x->back[2], true);
    at[2] = town_instance(1, "127.0.0.1", x->back[3], true);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        TOWN_OK(t, town_set(t, steps[i], 100 - steps[i], at, 3));
        TOWN_OK(t, town_view(t));
        assert_int_equal(t->share[0], steps[i]);
        assert_int_equal(t->share[1], 100 - steps[i]);
        measure(x, 100, seen);
        assert_in_range(seen[0], steps[i] > 5 ? steps[i] - 5 : 0, steps[i] + 5);
        assert_int_equal(seen[1], 0);
        assert_in_range(seen[2] + 1, seen[3], seen[3] + 2);
    }
    /* The former version is gone: its server is taken out, and a second instance elsewhere is taken in. */
    TOWN_OK(t, town_set(t, 0, 100, at + 1, 2));
    at[0] = town_instance(1, "127.0.0.1", x->back[1], true);
    TOWN_OK(t, town_set(t, 0, 100, at, 2));
    measure(x, 60, seen);
    assert_int_equal(seen[1], 30);
    assert_int_equal(seen[2], 30);
    /* What is not ready gets nothing. */
    at[0].ready = false;
    TOWN_OK(t, town_set(t, 0, 100, at, 2));
    measure(x, 20, seen);
    assert_int_equal(seen[2], 20);
    at[1].ready = at[1].running = false;
    at[0].running = false;
    assert_false(town_set(t, 0, 100, at, 2));
    town_says(t, false, "no instance of v1 is ready");
    measure(x, 20, seen); /* and nothing was taken away */
}

/* HAProxy's own check says that the target cannot be reached: nothing is taken from the other. */
static void test_target_that_haproxy_cannot_reach(void **state)
{
    struct town *t = *state;
    int seen[BACKENDS];
    start_proxy(t, "roundrobin", "check inter 100ms fall 1");
    struct proxy *x = t->more;
    open_it(t);
    struct executor_instance at[2];
    at[0] = town_instance(0, "127.0.0.1", x->back[0], true);
    at[1] = town_instance(1, "127.0.0.1", harness_free_port(), true);
    TOWN_OK(t, town_set(t, 100, 0, at, 2)); /* it is ready, with weight 0: checked, and found down */
    for (int64_t end = clock_mono_ms() + HARNESS_WAIT_MS; clock_mono_ms() < end;) {
        if (!town_set(t, 50, 50, at, 2))
            break;
        TOWN_OK(t, town_set(t, 100, 0, at, 2)); /* HAProxy has not noticed yet */
        town_turn(t, 50);
    }
    town_says(t, false, "for down");
    measure(x, 20, seen);
    assert_int_equal(seen[0], 20);
    /* It comes back at another place: then it goes on. */
    at[1] = town_instance(1, "127.0.0.1", x->back[2], true);
    TOWN_OK(t, town_set(t, 50, 50, at, 2));
    measure(x, 40, seen);
    assert_int_equal(seen[2], 20);
}

static void test_restart(void **state)
{
    struct town *t = *state;
    int seen[BACKENDS];
    start_proxy(t, "random", "");
    struct proxy *x = t->more;
    town_traffic(t, &traffic_haproxy, "type: haproxy, address: 'tcp://127.0.0.1:%d', backend: agents, " BOTH, x->tcp);
    struct executor_instance at[2];
    at[0] = town_instance(0, "127.0.0.1", x->back[0], true);
    at[1] = town_instance(1, "127.0.0.1", x->back[2], true);
    TOWN_OK(t, town_check(t));
    TOWN_OK(t, town_set(t, 25, 75, at, 2));
    TOWN_OK(t, town_view(t));
    assert_int_equal(t->share[1], 75);
    harness_kill(x->proc);
    assert_false(town_view(t));
    town_says(t, false, "nothing listens at");
    assert_false(town_set(t, 10, 90, at, 2));
    harness_start(x->proc);
    /* What is read is the truth: it has forgotten everything. */
    TOWN_OK(t, town_view(t));
    assert_int_equal(t->share[0], 100);
    /* Its weights may be right, and its addresses are not: that is seen by who compares. */
    t->at = at;
    t->n_at = 2;
    TOWN_OK(t, town_view(t));
    assert_int_equal(t->share[0], 0);
    assert_int_equal(t->nobody, 100);
    TOWN_OK(t, town_set(t, 100, 0, at, 2));
    TOWN_OK(t, town_view(t));
    assert_int_equal(t->share[0], 100);
    assert_int_equal(t->nobody, 0);
    measure(x, 20, seen);
    assert_int_equal(seen[0], 20);
    t->n_at = 0;
    TOWN_OK(t, town_set(t, 25, 75, at, 2));
    TOWN_OK(t, town_view(t));
    assert_int_equal(t->share[1], 75);
    measure(x, 100, seen);
    assert_in_range(seen[2], 60, 90);
    /* Frozen: an answer comes, in time. */
    harness_freeze(x->proc);
    assert_false(town_view(t));
    town_says(t, false, "does not answer in time");
    harness_thaw(x->proc);
    TOWN_OK(t, town_view(t));
}

static void test_refused_before_anything(void **state)
{
    struct town *t = *state;
    start_proxy(t, "static-rr", "");
    struct proxy *x = t->more;
    const char *dir = harness_dir(t->h);
    struct executor_instance at[2];
    at[0] = town_instance(0, "127.0.0.1", x->back[0], true);
    at[1] = town_instance(1, "127.0.0.1", x->back[2], true);
    open_it(t);
    assert_false(town_check(t));
    town_says(t, true, "balance static-rr");
    assert_false(town_set(t, 50, 50, at, 2));
    town_says(t, true, "static LB algorithm");
    town_traffic(t, &traffic_haproxy, "type: haproxy, address: 'unix://%s', backend: strange, " BOTH, x->sock);
    assert_false(town_check(t));
    town_says(t, true, "has no server a1");
    town_traffic(t, &traffic_haproxy,
                 "type: haproxy, address: 'unix://%s', backend: strange, side_0: [a0], side_1: [b0]", x->sock);
    assert_false(town_check(t));
    town_says(t, true, "server c0 belongs to neither side");
    town_traffic(t, &traffic_haproxy, "type: haproxy, address: 'unix://%s', backend: nowhere, " BOTH, x->sock);
    assert_false(town_check(t));
    town_says(t, true, "traffic.backend");
    town_traffic(t, &traffic_haproxy,
                 "type: haproxy, address: 'unix://%s', backend: strange, side_0: [a0, c0], side_1: [b0]", x->oper);
    assert_false(town_check(t));
    town_says(t, true, "level admin");
    town_traffic(t, &traffic_haproxy, "type: haproxy, address: 'tcp://127.0.0.1:%d', backend: agents, " BOTH,
                 x->front);
    assert_false(town_check(t));
    town_says(t, true, "not HAProxy's runtime API");
    town_traffic(t, &traffic_haproxy, "type: haproxy, address: 'unix://%s/none.sock', backend: agents, " BOTH, dir);
    assert_false(town_check(t));
    town_says(t, false, "level admin");
    town_traffic(t, &traffic_haproxy, "type: haproxy, address: 'unix:///%0150d', backend: agents, " BOTH, 1);
    assert_false(town_check(t));
    town_says(t, true, "longer than the system takes");
    town_traffic(t, &traffic_haproxy, "type: haproxy, address: 'tcp://nowhere', backend: agents, " BOTH);
    assert_false(town_check(t));
    town_says(t, true, "not an address");
    /* An address by name: HAProxy wants an IP address. */
    town_traffic(t, &traffic_haproxy,
                 "type: haproxy, address: 'unix://%s', backend: strange, side_0: [a0, c0], side_1: [b0]", x->sock);
    TOWN_OK(t, town_check(t));
    at[0] = town_instance(0, "no.such.host.invalid", 80, true);
    assert_false(town_set(t, 100, 0, at, 1));
    town_says(t, true, "set_address: false");
    /* Closed in the middle: the callback does not come, nothing is left. */
    t->done = false;
    t->kind->view(t->t, NULL, 0, town_on_view, t);
    t->kind->check(t->t, town_on_result, t);
    town_close_traffic(t);
    town_turn(t, 200);
    assert_false(t->done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_steps, town_setup, haproxy_teardown),
        cmocka_unit_test_setup_teardown(test_target_that_haproxy_cannot_reach, town_setup, haproxy_teardown),
        cmocka_unit_test_setup_teardown(test_restart, town_setup, haproxy_teardown),
        cmocka_unit_test_setup_teardown(test_refused_before_anything, town_setup, haproxy_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
