/* bench.c - figures beside their references; see bench.h. */
#include "bench.h"
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROWS_MAX 64

struct row {
    char name[96], unit[16], reference_name[64];
    double value, reference, bound;
};
struct bench {
    const char *bin, *json;
    struct row rows[ROWS_MAX];
    size_t n;
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

struct bench *bench_open(int argc, char **argv)
{
    static const struct option options[] = {
        {"bin", required_argument, NULL, 'b'}, {"json", required_argument, NULL, 'j'}, {0}};
    struct bench *b = calloc(1, sizeof *b);
    if (!b)
        fail("start", "out of memory");
    b->bin = "build/bin";
    b->json = "build/bench.json";
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'b')
            b->bin = optarg;
        else if (c == 'j')
            b->json = optarg;
        else
            exit(2);
    }
    return b;
}

const char *bench_program(const struct bench *b, const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", b->bin, name);
    if (access(path, X_OK) != 0)
        fail(path, "not built; run `make bench`");
    return path;
}

void bench_row(struct bench *b, const char *name, const char *unit, double value, const char *reference_name,
               double reference, double bound)
{
    if (b->n == ROWS_MAX)
        fail(name, "too many rows");
    struct row *r = &b->rows[b->n++];
    *r = (struct row){.value = value, .reference = reference, .bound = bound};
    snprintf(r->name, sizeof r->name, "%s", name);
    snprintf(r->unit, sizeof r->unit, "%s", unit);
    snprintf(r->reference_name, sizeof r->reference_name, "%s", reference_name);
}

static double ratio(const struct row *r)
{
    return r->reference > 0 ? r->value / r->reference : 0;
}

static bool holds(const struct row *r)
{
    return r->bound <= 0 || (r->reference > 0 && ratio(r) <= r->bound);
}

static void print_table(const struct bench *b)
{
    printf("\n%-52s %10s %-5s  %-34s %10s %7s %6s\n", "figure", "value", "", "reference", "", "ratio", "bound");
    for (size_t i = 0; i < b->n; i++) {
        const struct row *r = &b->rows[i];
        char bound[16] = "-";
        if (r->bound > 0)
            snprintf(bound, sizeof bound, "%.2f", r->bound);
        printf("%-52s %10.4g %-5s  %-34s %10.4g %7.2f %6s %s\n", r->name, r->value, r->unit, r->reference_name,
               r->reference, ratio(r), bound,
               r->bound <= 0 ? ""
               : holds(r)    ? "holds"
                             : "DOES NOT HOLD");
    }
}

static int write_json(const struct bench *b)
{
    json_t *list = json_load_file(b->json, 0, NULL);
    if (!json_is_array(list)) {
        json_decref(list);
        list = json_array();
    }
    for (size_t i = 0; i < b->n; i++) {
        const struct row *r = &b->rows[i];
        for (size_t k = json_array_size(list); k > 0; k--) {
            const char *name = json_string_value(json_object_get(json_array_get(list, k - 1), "name"));
            if (name && strcmp(name, r->name) == 0)
                json_array_remove(list, k - 1);
        }
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:f, s:s, s:f, s:f, s:f, s:b}", "name", r->name, "unit", r->unit,
                                        "value", r->value, "reference_name", r->reference_name, "reference",
                                        r->reference, "ratio", ratio(r), "bound", r->bound, "holds", holds(r)));
    }
    int failed = json_dump_file(list, b->json, JSON_INDENT(1));
    json_decref(list);
    return failed;
}

int bench_close(struct bench *b)
{
    print_table(b);
    int failed = write_json(b);
    if (failed)
        fprintf(stderr, "bench: cannot write %s\n", b->json);
    free(b);
    return failed ? 1 : 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_percentile(double *values, size_t n, double p)
{
    if (n == 0)
        fail("percentile", "nothing was measured");
    qsort(values, n, sizeof *values, by_value);
    size_t i = (size_t)((double)n * p / 100);
    return values[i < n ? i : n - 1];
}

int64_t bench_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

double bench_rss(pid_t pid)
{
    char path[64];
    long size, resident = -1;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return -1;
    if (fscanf(f, "%ld %ld", &size, &resident) != 2)
        resident = -1;
    fclose(f);
    return resident < 0 ? -1 : (double)resident * (double)sysconf(_SC_PAGESIZE);
}

double bench_cpu_s(pid_t pid)
{
    char path[64], line[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return -1;
    const char *rest = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
    fclose(f);
    if (!rest || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return -1;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}
