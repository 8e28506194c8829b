#!/usr/bin/env python3
"""tests/mutations/plant.py [--faults 100] [--seed 1] [--build build/mutations]: plants faults in the kernels, encodings,
counts, OPTC and quantiser, one at a time, and prints which test catches each, and which no test does. Not part of CI.
With --mended, plants only those that once survived and then got a test.

A fault is an operator, a constant, a bound, a sign or a condition that is changed at a place drawn from the seed. All
are compiled into one copy of the headers (mutant.hpp) and chosen at run time, so that a test is compiled once. Places
in constant expressions and in text that does not compile are drawn again. For each fault, the tests that execute its
line run, cheapest first, until one fails, crashes, or takes ten times its usual time."""
import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Headers in which faults are planted, and how many of a hundred fall into each group.
GROUPS = [
    (30, 'kernels', ['gemm/depth.hpp', 'gemm/correction.hpp', 'gemm/drain_portable.hpp', 'gemm/drain_avx512.hpp',
                     'gemm/fused.hpp', 'gemm/kernel_avx2.hpp', 'gemm/kernel_avx512.hpp', 'gemm/kernel_scalar.hpp',
                     'gemm/pack_portable.hpp', 'gemm/pack_avx512.hpp', 'gemm/plan.hpp', 'gemm/sliced.hpp',
                     'gemm/sliced_tile.hpp', 'gemm/skip.hpp', 'gemm/check.hpp']),
    (15, 'encodings', ['slice/bitmap_definition.hpp', 'slice/counts.hpp', 'slice/digits.hpp', 'slice/encoding.hpp',
                       'slice/sliced_matrix.hpp']),
    (20, 'counts', ['accelerator/slice_counts.hpp', 'accelerator/slice_plan.hpp', 'accelerator/ran.hpp',
                    'accelerator/ioss.hpp', 'accelerator/column_counts.hpp', 'accelerator/whole_tiles.hpp',
                    'accelerator/balanced_tiles.hpp', 'accelerator/datapath_counter.hpp', 'accelerator/counting.hpp',
                    'accelerator/shared_rows.hpp', 'accelerator/row_bits.hpp']),
    (15, 'optc', ['accelerator/optc.hpp', 'accelerator/optc_definition.hpp', 'accelerator/optc_plan.hpp',
                  'accelerator/optc_lanes.hpp', 'accelerator/optc_state.hpp', 'accelerator/optc_avx512.hpp',
                  'core/elementary.hpp']),
    (20, 'quantiser', ['core/quantise_definition.hpp', 'core/quantise_kernels.hpp', 'core/sdfxp.hpp',
                       'core/rounding.hpp', 'core/histogram.hpp', 'core/histogram_kernels.hpp', 'core/random.hpp', 'core/format.hpp']),
]
# Cheapest first; the last one trains whole networks to known hashes.
TESTS = ['rounding_test', 'encoding_test', 'sdfxp_test', 'elementary_test', 'random_test', 'histogram_test',
         'sliced_matrix_test', 'quantise_test', 'skip_test', 'slice_counts_test', 'optc_test', 'gemm_test',
         'datapath_test', 'fused_test', 'hash_test']
# Survivors that got a test: header, line, which of its candidates of a kind, and that test.
MENDED = [
    ('slice/encoding.hpp', 'int r = 0;', 'constant 0 -> 1', 0, 'encoding_test'),
    ('core/random.hpp', 'const std::uint32_t threshold = (0u - bound) % bound;', 'sign of - turned', 0, 'random_test'),
    ('core/quantise_definition.hpp', 'if (job.samples <= 0 || job.elements <= 0) return {};', 'bound <= moved by -1', 1,
     'quantise_test'),
    ('accelerator/optc_lanes.hpp', 'const std::int64_t bias = ((one << right) >> 1) - dropping + '
     '((product >> right) & dropping);', 'shift >> by one more', 0, 'optc_test'),
]

NUMBER = re.compile(r"(?<![\w.'\"<])(\d{1,4})(?![\w.'\"])")
# A line on which a choice at run time cannot stand: declarations of types and constants, macros, intrinsics' immediates.
NOT_HERE = re.compile(r'^\s*(#|//|template|static_assert|using|namespace|struct|class|enum|inline constexpr|'
                      r'(static )?constexpr|case|visit\(|__attribute__|throw|if constexpr|asm)|"|static_assert|constexpr [^(]*=|'
                      r'std::array<|_mm|__m\d|alignas|LAMELLA_|\bvn|\bvq|noexcept\(')


def candidates(line, number):
    """Every mutation of a line, as (what, mutated text); `number` is the fault's."""
    code = line.split('//')[0].rstrip('\n')
    if NOT_HERE.search(code):
        return []
    found = []
    for m in NUMBER.finditer(code):
        value = int(m[1])
        before, after = code[:m.start()], code[m.end():]
        if before.rstrip().endswith(('<', 'operator')) and not before.endswith('< ') or re.match(r'\s*>', after):
            if '<' in before.rstrip()[-1:]:
                continue
        if re.search(r'[\[<]\s*$', before) and '>' in after[:2]:
            continue
        if re.match(r'\s*\w+ = $', before) and after in (',', ''):  # an enumerator
            continue
        if re.search(r' \w+\[$', before) and '] = {' in after:  # an array's size
            continue
        other = value - 1 if value > 1 and number % 2 else value + 1
        found.append((f'constant {value} -> {other}',
                      f'{before}lamella_mutant::pick({number}, {value}, {other}){after}'))
    for m in re.finditer(r' (<=|>=|<<|>>|<|>|==|!=|\+|-|\+=|-=|\*) (?=[\w(])', code):
        op, before, after = m[1], code[:m.start()], code[m.end():]
        if re.match(r'(nullptr|true|false|operator|\w+::\w+(?!\())', after) or re.search(r'(template|return|operator|,|\()$', before):
            continue
        step = {'<': (0, 1), '<=': (0, -1), '>': (0, -1), '>=': (0, 1)}.get(op)
        if op in ('<', '<=', '>', '>='):
            what, text = f'bound {op} moved by {step[1]}', f'lamella_mutant::pick({number}, 0, {step[1]}) + '
        elif op in ('<<', '>>'):
            what, text = f'shift {op} by one more', f'lamella_mutant::pick({number}, 0, 1) + '
        elif op in ('==', '!='):
            what, text = f'operator {op} against one more', f'lamella_mutant::pick({number}, 0, 1) + '
        elif op in ('+', '-', '+=', '-='):
            what, text = f'sign of {op} turned', f'lamella_mutant::pick({number}, 1, -1) * '
        else:
            what, text = 'operator * doubled', f'lamella_mutant::pick({number}, 1, 2) * '
        found.append((what, f'{before} {op} {text}{after}'))
    for m in re.finditer(r'\bstd::(min|max)(<[\w: ]+>)?\((?!\{)', code):
        name = {'min': 'smaller', 'max': 'larger'}[m[1]]
        found.append((f'std::{m[1]} the other way',
                      f'{code[:m.start()]}lamella_mutant::{name}{m[2] or ""}({number}, {code[m.end():]}'))
    m = re.match(r'(\s*(?:else |\} else )?(?:if|while) \()(.*)$', code)
    if m:
        depth, end = 1, None
        for i, c in enumerate(m[2]):
            depth += (c == '(') - (c == ')')
            if depth == 0:
                end = i
                break
        if end is not None and ';' not in m[2][:end] and ' = ' not in m[2][:end]:
            found.append(('condition turned', f'{m[1]}static_cast<bool>({m[2][:end]}) != '
                                              f'lamella_mutant::on({number}){m[2][end:]}'))
    return found


class fault:
    def __init__(self, number, group, path, line, what, text, original):
        self.number, self.group, self.path, self.line = number, group, path, line
        self.what, self.text, self.original = what, text, original


def sources(group):
    for path in group[2]:
        if os.path.exists(f'{ROOT}/include/lamella/{path}'):
            with open(f'{ROOT}/include/lamella/{path}') as file:
                yield path, file.read().split('\n')


def draw(count, seed):
    """Faults spread over the groups, no two on one line; more than asked for, since some will not compile."""
    dice = random.Random(seed)
    faults = []
    for group in GROUPS:
        places = [(path, i, line) for path, lines in sources(group) for i, line in enumerate(lines)
                  if candidates(line, 1)]
        dice.shuffle(places)
        for path, i, line in places[:max(1, round(group[0] * count / 100))]:
            number = len(faults) + 1
            what, text = dice.choice(candidates(line, number))
            faults.append(fault(number, group[1], path, i, what, text, line.strip()))
    return faults


def mended():
    faults = []
    for path, text, kind, which, _ in MENDED:
        group = next(g for g in GROUPS if path in g[2])
        lines = next(lines for p, lines in sources(group) if p == path)
        places = [i for i, line in enumerate(lines) if line.split('//')[0].strip() == text]
        if len(places) != 1:
            sys.exit(f'{path}: expected one line "{text}", found {len(places)}')
        number = len(faults) + 1
        what, mutated = [c for c in candidates(lines[places[0]], number) if c[0] == kind][which]
        faults.append(fault(number, group[1], path, places[0], what, mutated, text))
    return faults


def plant(faults, copy):
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(f'{ROOT}/include', copy)
    for path in {f.path for f in faults}:
        with open(f'{ROOT}/include/lamella/{path}') as file:
            lines = file.read().split('\n')
        for f in faults:
            if f.path == path:
                lines[f.line] = f.text
        with open(f'{copy}/lamella/{path}', 'w') as file:
            file.write('\n'.join(lines))


def main():
    options = argparse.ArgumentParser()
    options.add_argument('--faults', type=int, default=100)
    options.add_argument('--seed', type=int, default=1)
    options.add_argument('--build', default=f'{ROOT}/build/mutations')
    options.add_argument('--tests', default=','.join(TESTS))
    options.add_argument('--mended', action='store_true', help='only the faults that got a test, against those tests')
    options.add_argument('--keep', action='store_true', help='go on with what an earlier run of this seed compiled and found')
    options.add_argument('--part', default='1/1', help='only these faults: 2/3 is the second of every three')
    options = options.parse_args()
    part, parts = (int(x) for x in options.part.split('/'))
    tests = [m[-1] for m in MENDED] if options.mended else options.tests.split(',')
    os.makedirs(options.build, exist_ok=True)
    copy = f'{options.build}/include'

    faults = mended() if options.mended else draw(round(1.35 * options.faults), options.seed)
    dropped = set()
    flags = ['g++', '-std=c++20', '-O1', '-w', '-fopenmp', '-Wno-narrowing',
             f'-DLAMELLA_SOURCE_DIR="{ROOT}"', f'-I{copy}',
             '-include', f'{ROOT}/tests/mutations/mutant.hpp']

    def compile_one(arguments, what):
        """Compiles, leaving out faults whose lines do not compile."""
        for _ in range(12):
            done = subprocess.run(flags + arguments, capture_output=True, text=True)
            if done.returncode == 0:
                return
            wrong = set()
            for path, line in re.findall(r'include/lamella/(\S+?\.hpp):(\d+)', done.stderr):
                wrong |= {f.number for f in faults if f.path == path and f.line + 1 == int(line)}
            wrong -= dropped
            if not wrong:
                sys.exit(f'{what} does not compile:\n{done.stderr[:4000]}')
            print(f'{what}: drawn again, no C++: {sorted(wrong)}', flush=True)
            dropped.update(wrong)
            plant([f for f in faults if f.number not in dropped], copy)
        sys.exit(f'{what} does not compile')

    if not options.keep:
        plant(faults, copy)
        subprocess.run(['g++', '-std=c++20', '-O1', '-c', f'{ROOT}/tests/main.cpp', '-o', f'{options.build}/main.o'],
                       check=True)
    for test in tests:
        if options.keep and os.path.exists(f'{options.build}/{test}'):
            continue
        compile_one([f'{ROOT}/tests/{test}.cpp', f'{options.build}/main.o', '-o', f'{options.build}/{test}'], test)
        print(f'compiled {test}', flush=True)

    def run(test, number, limit, reached=None):
        environment = dict(os.environ, LAMELLA_MUTANT=str(number), OMP_NUM_THREADS='1')
        if reached:
            environment['LAMELLA_REACHED'] = reached
        begun = time.process_time(), time.time()
        try:
            done = subprocess.run(['sh', '-c', f'ulimit -v 8000000 -t {limit}; exec "$@"', 'sh',
                                   f'{options.build}/{test}', '--abort-after=1'], env=environment, capture_output=True)
            return done.returncode, time.time() - begun[1], done.stdout.decode(errors='replace')
        except OSError as failure:
            return -1, 0, str(failure)

    reached, usual = {}, {}
    for test in tests:
        seconds = f'{options.build}/{test}.seconds'
        if not (options.keep and os.path.exists(seconds)):
            before = os.times().children_user
            status, _, output = run(test, 0, 600, f'{options.build}/{test}.reached')
            if status != 0:
                sys.exit(f'{test} fails without a fault:\n{output[-3000:]}')
            with open(seconds, 'w') as file:
                file.write(str(os.times().children_user - before))
        with open(seconds) as file:
            usual[test] = float(file.read())
        with open(f'{options.build}/{test}.reached') as file:
            reached[test] = {int(line) for line in file}
        print(f'{test}: {usual[test]:.1f} s, executes {len(reached[test])} of the faults', flush=True)

    alive = [f for f in faults if f.number not in dropped]
    chosen = []
    for group in GROUPS:  # as many of each group as asked for, in the order drawn
        chosen += [f for f in alive if f.group == group[1]][:max(1, round(group[0] * options.faults / 100))]
    chosen = chosen[part - 1::parts]
    caught, survivors = 0, []
    for f in chosen:
        known = f'{options.build}/fault-{f.number}'
        if not (options.keep and os.path.exists(known)):
            verdict = ''
            for test in tests:
                if f.number not in reached[test]:
                    continue
                status, _, output = run(test, f.number, max(5, int(10 * usual[test])))
                if status != 0:
                    how = ' (time)' if status in (137, -9, 152, -24) else ' (crash)' if status < 0 or status > 128 else ''
                    verdict = f'caught by {test}{how}'
                    break
            with open(known, 'w') as file:
                file.write(verdict)
        with open(known) as file:
            verdict = file.read()
        if verdict:
            caught += 1
        else:
            survivors.append(f)
            executed = any(f.number in reached[test] for test in tests)
            verdict = 'SURVIVED' if executed else 'SURVIVED, never executed'
        print(f'{f.number:4} {f.group:9} {f.path}:{f.line + 1}: {f.what}: {verdict}\n       {f.original}', flush=True)
    drawn = 'mended before' if options.mended else f'{len(dropped)} drawn again, seed {options.seed}'
    print(f'{len(chosen)} faults planted, {caught} caught, {len(survivors)} survived ({drawn})')


if __name__ == '__main__':
    main()
