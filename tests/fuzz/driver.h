/* driver.h - runs a libFuzzer-style target without libFuzzer: a bounded number of inputs that the target makes from a seed.
 *
 * A fuzz file defines LLVMFuzzerTestOneInput() and fuzz_make() and includes this last. With libFuzzer itself: compile it with
 * clang -DFUZZ_LIBFUZZER -fsanitize=fuzzer,address,undefined and link libcommon.a and libproto.a.
 * Without: fuzz_NAME [--runs N] [--seed S] [--only I] [FILE...]. Every input follows from seed and number alone; a crash says
 * both, and `--seed S --only I` makes the same input again. */
#ifndef REDOUBT_FUZZ_DRIVER_H
#define REDOUBT_FUZZ_DRIVER_H

#ifndef FUZZ_LIBFUZZER
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FUZZ_RUNS_DEFAULT 20000

static uint64_t fuzz_seed, fuzz_now;

static void fuzz_crashed(int signum)
{
    char text[128];
    int n = snprintf(text, sizeof text, "\ncrashed: --seed %llu --only %llu\n", (unsigned long long)fuzz_seed,
                     (unsigned long long)fuzz_now);
    ssize_t ignored = write(STDERR_FILENO, text, (size_t)n);
    (void)ignored;
    signal(signum, SIG_DFL);
    raise(signum);
}

static int fuzz_file(const char *path, uint8_t *buf, size_t room)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, room);
    if (n < 0) {
        perror(path);
        return 1;
    }
    close(fd);
    LLVMFuzzerTestOneInput(buf, (size_t)n);
    return 0;
}

static void fuzz_one(uint64_t number, uint8_t *buf, size_t room)
{
    struct fuzz_random r = {fuzz_seed * 0x9e3779b97f4a7c15u + number * 0xd1342543de82ef95u + 1};
    fuzz_now = number;
    size_t n = fuzz_make(&r, buf, room);
    /* Sanitizers see reads past the end only if the input ends where its memory does. */
    uint8_t *exact = malloc(n ? n : 1);
    memcpy(exact, buf, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

int main(int argc, char **argv)
{
    static uint8_t buf[1 << 18];
    uint64_t runs = FUZZ_RUNS_DEFAULT, only = UINT64_MAX;
    int files = 0, failed = 0;
    fuzz_seed = (uint64_t)time(NULL);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc) {
            runs = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            fuzz_seed = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
            only = strtoull(argv[++i], NULL, 10);
        } else {
            files++;
            failed |= fuzz_file(argv[i], buf, sizeof buf);
        }
    }
    if (files)
        return failed;
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        signal(signals[i], fuzz_crashed);
    if (only != UINT64_MAX) {
        fuzz_one(only, buf, sizeof buf);
    } else {
        for (uint64_t i = 0; i < runs; i++) {
            alarm(20); /* an input that takes longer is a finding too */
            fuzz_one(i, buf, sizeof buf);
        }
        alarm(0);
    }
    printf("%s: %llu inputs, seed %llu\n", argv[0], (unsigned long long)(only == UINT64_MAX ? runs : 1),
           (unsigned long long)fuzz_seed);
    fuzz_report();
    return 0;
}
#endif

#endif
