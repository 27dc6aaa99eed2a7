# Redoubt: build, test and run. `make help` lists the targets.
#
# Everything is built below $(BUILD). A room is a folder of services/; each becomes one archive, and one program
# if it has a main.c. Tests and benchmarks are found by name: tests/*/test_ROOM[_*].c links ROOM's archive.

BUILD  ?= build
PREFIX ?= /usr/local
DESTDIR ?=
CC     ?= gcc
SAN    ?=
# Sanitised builds live beside the plain one: build/asan..., never mixed with it.
ifneq ($(SAN),)
comma := ,
OUT := $(BUILD)/san-$(subst $(comma),-,$(SAN))
else
OUT := $(BUILD)
endif

VERSION := 0.1.0
PKGS    := libnats hiredis libprotobuf-c libcurl libuv jansson libmicrohttpd libsodium yaml-0.1 libpcre2-8 libcares libcrypto
WARN    := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wformat=2 -Werror \
           -Wno-unknown-warning-option -Wno-format-truncation # texts are cut on purpose
HARDEN  := -fstack-protector-strong -fPIE -fno-common -ffunction-sections -fdata-sections
ifeq ($(SAN),)
OPT     ?= -O2 -g
# A test's own code need not be fast; lines for its backtraces are enough. Half of the time that compiling it took.
OPT_TESTS ?= -Og -g1 -Wno-maybe-uninitialized
HARDEN  += -D_FORTIFY_SOURCE=2
else
OPT     ?= -Og -g1 -Wno-maybe-uninitialized -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all
OPT_TESTS := $(OPT)
# The plain build sees to warnings; what instrumented code looks like to the compiler brings false ones.
WARN := $(filter-out -Werror,$(WARN))
endif
# Values are read once; pkg-config is absent until `make deps` has run.
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
CPPFLAGS += -D_GNU_SOURCE -DREDOUBT_VERSION='"$(VERSION)"' -Iservices -I$(OUT)/proto $(PKG_CFLAGS)
CFLAGS   += -std=c17 $(OPT) $(WARN) $(HARDEN)
LDFLAGS  += -pie -Wl,-z,relro,-z,now -Wl,--gc-sections -Wl,--as-needed $(if $(SAN),-fsanitize=$(SAN) $(FAST_LD))
LIBS     := -lnats -lhiredis -lprotobuf-c -lcurl -luv -ljansson -lmicrohttpd -lsodium -lyaml -lpcre2-8 -lcares -lcrypto -ljq -lpthread -lm

# Two hundred tests are linked two or three times: by mold where it is, in a third of the time. What is delivered is linked by the compiler's own linker.
FAST_LD  := $(if $(shell command -v mold),-fuse-ld=mold)

PROTOS   := $(sort $(wildcard proto/redoubt/v1/*.proto))
PROTO_C  := $(patsubst proto/%.proto,$(OUT)/proto/%.pb-c.c,$(PROTOS))
PROTO_H  := $(PROTO_C:.c=.h)
PROTO_O  := $(PROTO_C:.c=.o)

ROOMS    := $(sort $(notdir $(patsubst %/,%,$(dir $(wildcard services/*/*.c)))))
SRC      := $(sort $(wildcard services/*/*.c))
MAINS    := $(wildcard services/*/main.c)
PROGRAMS := $(patsubst %,$(OUT)/bin/redoubt-%,$(filter-out cli,$(patsubst services/%/main.c,%,$(MAINS)))) \
            $(if $(wildcard services/cli/main.c),$(OUT)/bin/redoubt)
archive   = $(OUT)/lib/lib$(1).a
room_objs = $(patsubst %.c,$(OUT)/obj/%.o,$(filter-out %/main.c,$(wildcard services/$(1)/*.c)))

TESTS_C  := $(sort $(wildcard tests/unit/test_*.c tests/integration/test_*.c))
TESTS    := $(patsubst tests/%.c,$(OUT)/tests/%,$(TESTS_C))
BENCH    := $(patsubst tests/%.c,$(OUT)/tests/%,$(sort $(wildcard tests/bench/bench_*.c)))
FUZZ     := $(patsubst tests/%.c,$(OUT)/tests/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))

# V=1 shows the commands.
Q   := $(if $(V),,@)
say  = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2))

.DEFAULT_GOAL := all
.SUFFIXES:
.SECONDARY:
.DELETE_ON_ERROR:

all: $(PROGRAMS) ## build every program below build/bin

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort -u | awk -F':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

$(OUT)/proto/%.pb-c.c $(OUT)/proto/%.pb-c.h &: proto/%.proto
	@mkdir -p $(OUT)/proto
	$(call say,PROTO,$<)
	$(Q)protoc-c -Iproto --c_out=$(OUT)/proto $<

# Generated code is not ours to warn about.
$(OUT)/proto/%.o: $(OUT)/proto/%.c $(PROTO_H)
	$(Q)$(CC) $(CPPFLAGS) $(filter-out $(WARN),$(CFLAGS)) -MMD -MP -c $< -o $@

$(OUT)/obj/%.o: %.c $(PROTO_H) | deps-said
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(OUT)/obj/tests/unit/%.o $(OUT)/obj/tests/integration/%.o: OPT = $(OPT_TESTS)

define room_rules
$(call archive,$(1)): $(call room_objs,$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	$(Q)ar rcsD $$@ $$^
endef
$(foreach r,$(ROOMS),$(eval $(call room_rules,$(r))))
$(call archive,proto): $(PROTO_O)
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)ar rcsD $@ $^

# Rooms whose code a room uses (the operator's command: every room's); and what each program stands on, besides its own archive.
uses      = $(foreach r,$(if $(filter cli,$(1)),$(filter-out cli,$(ROOMS)),$(if $(filter continuity,$(1)),audit alert)),$(call archive,$(r)))
base      = $(if $(wildcard services/client/*.c),$(call archive,client)) $(call archive,common) $(call archive,proto)
link      = $(CC) $(CFLAGS) $(LDFLAGS) $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS) $(1) -o $@

define program_rules
$(OUT)/bin/$(if $(filter cli,$(1)),redoubt,redoubt-$(1)): $(OUT)/obj/services/$(1)/main.o $(call archive,$(1)) $(call uses,$(1)) $(base)
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@)
	$(Q)$$(call link)
endef
$(foreach m,$(MAINS),$(eval $(call program_rules,$(patsubst services/%/main.c,%,$(m)))))

# tests/unit/test_breaker_sim.c -> room "breaker"
room_of   = $(word 2,$(subst _, ,$(notdir $(1))))
define test_rules
$(OUT)/tests/$(patsubst tests/%.c,%,$(1)): $(OUT)/obj/$(1:.c=.o) $(OUT)/obj/tests/harness.o \
    $(if $(filter tests/bench/%,$(1)),$(OUT)/obj/tests/bench/bench.o) \
    $(if $(filter $(call room_of,$(1:.c=)),$(ROOMS)),$(call archive,$(call room_of,$(1:.c=))) $(call uses,$(call room_of,$(1:.c=)))) $(base)
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@)
	$(Q)$$(call link,-lcmocka $(FAST_LD))
endef
$(foreach t,$(TESTS_C) $(wildcard tests/bench/bench_*.c tests/fuzz/fuzz_*.c),$(eval $(call test_rules,$(t))))

.PHONY: deps-said
deps-said:
	@pkg-config --exists $(PKGS) || { echo "make: libraries are missing: run 'make deps' first" >&2; exit 1; }

tests: $(TESTS) $(FUZZ) ## build the C tests
benches: $(BENCH)

# ---- what people call; each installs what it needs and builds by itself ----

SUB := $(MAKE) --no-print-directory -j$(shell nproc)

deps: ## install the Debian packages that are missing (DEPS="build run test bench lint")
	@deploy/deps $(or $(DEPS),build run)

demo: ## the LLM-outage story on a private stack, with real kills (KEEP=1 leaves it running)
	@deploy/deps build run
	@$(SUB) all
	@$(OUT)/bin/redoubt drill llm-outage $(if $(KEEP),--keep)

up: ## run the suite on this machine in the background, on loopback
	@deploy/deps build run
	@$(SUB) all
	@deploy/local up $(OUT)

down: ## end what `make up` started
	@deploy/local down $(OUT)

test: ## every test: C (plain, sanitised, valgrind) and end to end
	@deploy/deps build run test
	@$(SUB) node-modules
	@tests/all $(BUILD)

images: ## the suite's container images (AIRGAP=1: nothing is pulled)
	@deploy/images $(if $(AIRGAP),--airgap)

test-compose: ## docker-compose.yml and its overlays on an engine of their own
	@deploy/deps build run test
	@$(SUB) node-modules
	@tests/compose/run $(BUILD)/test-logs/compose

bench: ## every figure beside its reference; writes build/bench.json
	@deploy/deps build run test bench
	@$(SUB) all benches
	@rm -f $(BUILD)/bench.json
	@for b in $(BENCH); do $$b --bin $(OUT)/bin --json $(BUILD)/bench.json || exit 1; done

lint: ## form of C, shell and the contract
	@deploy/deps build lint
	@$(SUB) node-modules $(PROTO_H)
	@tests/lint $(OUT)

# The lock file names what Linux needs; npm 11 refuses `ci` for the missing packages of other systems, and `install` keeps to it as well.
NPM_FLAGS := --no-audit --no-fund --ignore-scripts --loglevel=error
# npm writes this file last, so it is newer than the lock file exactly when the install is complete.
node-modules: tests/node_modules/.package-lock.json
tests/node_modules/.package-lock.json: tests/package-lock.json
	@cd tests && { npm ci $(NPM_FLAGS) 2>/dev/null || npm install --no-save $(NPM_FLAGS); } && touch node_modules/.package-lock.json

install: all ## install programs, libredoubt, the contract and an example configuration
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/share/redoubt
	install -m 755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 services/client/redoubt.h $(DESTDIR)$(PREFIX)/include
	install -m 644 $(OUT)/lib/libredoubt.a $(DESTDIR)$(PREFIX)/lib
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' services/client/redoubt.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/redoubt.pc
	cp -R proto $(DESTDIR)$(PREFIX)/share/redoubt/
	install -m 644 deploy/redoubt.yaml $(DESTDIR)$(PREFIX)/share/redoubt/redoubt.yaml
	install -m 644 deploy/security-baseline.yaml deploy/security-baseline.yaml.signoff $(DESTDIR)$(PREFIX)/share/redoubt

# What an agent links: client, common and contract in one archive.
$(OUT)/lib/libredoubt.a: $(base)
	@rm -f $@
	$(Q)printf 'create %s\n' $@ > $@.mri; for a in $^; do printf 'addlib %s\n' $$a >> $@.mri; done; printf 'save\nend\n' >> $@.mri
	$(Q)ar -M < $@.mri
all: $(OUT)/lib/libredoubt.a

clean: ## remove everything built
	rm -rf $(BUILD)

-include $(patsubst %.c,$(OUT)/obj/%.d,$(SRC) $(TESTS_C) $(wildcard tests/*.c tests/bench/*.c tests/fuzz/*.c))
.PHONY: all help tests benches deps demo up down test images test-compose bench lint node-modules install clean
