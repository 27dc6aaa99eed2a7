/* bench.h - figures beside their references: rows, percentiles, a table and build/bench.json. For all benchmarks.
 *
 * A program is called as `bench_X --bin DIR --json FILE` and adds its rows to FILE; a row of the same name is replaced. */
#ifndef REDOUBT_TESTS_BENCH_H
#define REDOUBT_TESTS_BENCH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bench;
/* Reads the options; ends the program with a text on wrong ones. */
struct bench *bench_open(int argc, char **argv);
/* DIR/name as given by --bin; in a static buffer. Ends the program if it is not there. */
const char *bench_program(const struct bench *b, const char *name);

/* One figure. ratio = value / reference. It holds if the ratio is at most `bound`; bound 0 = for information only. */
void bench_row(struct bench *b, const char *name, const char *unit, double value, const char *reference_name,
               double reference, double bound);
/* Prints the table, writes the file, frees. 0, or 1 if the file cannot be written. A bound that does not hold is said, not
 * an error: the machine may be busy. */
int bench_close(struct bench *b);

/* Sorts; p in 0..100. */
double bench_percentile(double *values, size_t n, double p);
/* Wall clock for latencies, of this host only. */
int64_t bench_ns(void);
/* Of a process: bytes in memory, and CPU time used so far in seconds; -1 if it is gone. */
double bench_rss(pid_t pid);
double bench_cpu_s(pid_t pid);

#endif
