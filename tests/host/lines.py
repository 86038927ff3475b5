"""Lines for the comparison with bash: written by hand, and made by a seeded generator from a small grammar."""

import random
import re
from typing import Final

#: One line each; blank lines and those that begin with `##` only part them for the reader.
WRITTEN: Final = r"""
## pipes
cat a.txt | sort
cat a.txt | sort | uniq -c | sort -rn | head -n 2
cat a.txt | cat | cat | cat | cat | cat | cat | wc -l
echo hello | cat
echo hello | cat | cat -n
echo one two three | wc -w
seq 100000 | tail -n 1
seq 100000 | head -n 1
yes | head -n 3
yes | head -c 100000 | wc -c
cat /dev/zero | head -c 70000 | wc -c
sort numbers | head -n 1 | tr 0-9 a-j
true | cat
false | cat
cat nofile | cat
cat nofile | sort | false
false | true
false | false | true
exit7 | cat
nosuch | cat
cat a.txt | nosuch
cat a.txt | nosuch | cat
./run.sh x | cat
cat a.txt | ./run.sh y
./plain | cat
echo hi | ./slow.sh
cat a.txt |& cat
cat nofile |& wc -l
ls nofile a.txt |& wc -l
echo a | echo b
echo a | true
pwd | cat
cd sub | cat
cd sub | pwd
cd sub | pwd; pwd
cd nodir | cat; echo after
printf 'a\nb\n' | tac
printf '%s-%d\n' x 5 y 6 | sort -r
head -n 1 a.txt | tee copy | tr a-z A-Z
: | cat
: | :
false | :
sort -n numbers | uniq | wc -l > count

## exit codes and joins
true
false
! true
! false
! cat nofile
! false | true
! true | false
nosuch
./run.sh
./plain
./sub
sub
./badly-made
./nofile
/no/such/program
true && echo yes
false && echo no
true || echo no
false || echo yes
false && echo a || echo b
true && echo a || echo b
true || echo a && echo b
false || false || echo c
false; echo after
true; false
false && true; echo still
nosuch || echo rescued
./run.sh || echo rescued
./run.sh; echo next
! false && echo inverted
false || ! false
false | true && echo no
false | true || echo pipefail
echo a; echo b; echo c
echo a && echo b && false && echo c || echo d; echo e
test -f a.txt && echo there
test -f nofile || echo missing
[ 1 -lt 2 ] && echo less
[ -d sub ] && [ -e link ] && echo both
test a = b
[ a = a ]
test
[ 1 -eq x ]
sh -c 'kill -TERM $$'
sh -c 'kill -KILL $$'
sh -c 'exit 300'
sh -c 'kill -INT $$' | cat

## redirects
echo hello > new
echo hello > a.txt
echo hello >> a.txt
echo hello >| a.txt
cat < a.txt
cat < b.txt > copy
sort < a.txt | uniq > out
cat nofile 2> err
cat nofile 2> err; cat err | wc -l
cat nofile > out 2>&1
cat nofile 2>&1 > out
cat nofile 2>&1 | wc -l
ls a.txt nofile > out 2>&1
ls a.txt nofile &> both
ls a.txt nofile &>> a.txt
ls a.txt nofile 2>&1 >/dev/null | wc -l
echo to-stderr >&2
echo to-stderr 1>&2 2>/dev/null
echo a > one > two > three
> made
> a.txt
cat < nofile
cat < nofile; echo after
cat < nofile || echo rescued
cat < nofile | cat
echo x > nodir/f
echo x > nodir/f && echo no
echo x > sub
cat < sub
echo x > first < nofile
echo x < nofile > second
cat a.txt > out < b.txt
cat < a.txt < b.txt
nosuch > made
nosuch 2> made
./plain 2> made; wc -l < made
true > made
: > a.txt
cd sub > made; pwd
cd nodir 2> made
false > made || cat made
echo x > "c d.txt"
echo x > 'quoted name'
echo x > ~/home-file
echo x > "$HOME/home-file"
echo x > $PWD/pwd-file
echo x > b.*
echo x > *.txt
echo x > no*match
cat < b.*
cat < *.txt
cat < link
echo x > link
echo x >> link
echo x > dangling
echo x > dirlink/new
cat < dirlink/one.py
echo x > sub/../up
cat < ./sub/./deep/../one.py
echo x > new/
echo x > a.txt/
echo x > ''
echo x > /dev/null
cat < /dev/null
cat nofile 2>/dev/null
echo x > /dev/full
cat a.txt > /dev/full
echo x > /dev/stdout
echo x > /dev/stderr
cat /dev/null > made
head -c 3 < /dev/zero | wc -c
cat a.txt > a.txt
cat a.txt >> a.txt
sort a.txt > a.txt
seq 200000 > big
yes > big
yes | cat > big
yes > big || wc -c big
echo 1>&0
echo a >&2 | cat
cat nofile 2>&1 1>&2 | wc -l
cat 0< a.txt
cat 2>&1 < a.txt > out
echo x 2> err 1>&2
echo x > out; echo y >> out; cat out
cat a.txt | cat > out; wc -l out
cat a.txt | tee out1 > out2; cat out1 out2
grep apple a.txt > found && cat found || echo none
grep nothing a.txt > found && cat found || echo none
cat < a.txt | cat < b.txt
echo lost | cat < b.txt
cat a.txt > out | cat
ls nofile 2> err | cat; wc -l < err

## words
echo a   b "c   d" 'e   f' g\ h
echo "" '' x
echo "a"'b'c
echo $HOME "$HOME" '$HOME' \$HOME
echo ~ ~/sub "~" '~' \~ a~
echo ~/*.txt
echo $PWD $USER
echo "$PWD/x"
cd sub && echo $PWD && echo ~
cd sub; echo "$PWD"
echo *
echo * | tr ' ' '\n' | wc -l
echo *.txt
echo "*.txt" '*' \*
echo *.none
echo no*such no?such no[a]such
echo ?.txt
echo [ab].txt
echo [a-c]*.txt
echo [!a]*.txt
echo [^a]*.txt
echo [[:upper:]]*
echo [[:alpha:]].txt
echo [[:digit:]]*
echo [z-a]*
echo []]* [x
echo [[]*
echo \[x].txt
echo "["x]*
echo .*
echo .h*
echo sub/*
echo sub/.*
echo */
echo */*
echo */*.py
echo */one.py
echo */deep/*
echo */nothing
echo s*/d*/x*
echo ./*.txt
echo sub/../*.txt
echo sub//*.py
echo *//one.py
echo sub///deep//*.txt */deep///x.txt *// sub//*//x.txt .//*//*
echo **
echo *.t?t
echo *t
echo *e*e*
echo dirlink/*
echo dang*
echo l*
echo "$HOME"/*.txt
echo $HOME/sub/*
echo "c d"*
echo c*t
echo é*
echo ??txt ?????
cat *.txt
cat *.txt | wc -l
ls -d *
ls *.py sub/*.py
wc -l sub/*.py
cd sub; echo *
cd sub && ls *.py | sort -r
echo -n no newline
echo -e 'a\tb\nc'
echo -e 'a\cb' after
echo -ne 'x\n'
echo -E 'a\tb'
echo -e '\x41\u00e9\0101\\'
echo -e '\q\x\u'
echo -n -e -E 'a\nb'
echo -nx y
echo -- a
echo - a
echo --help
printf '%s\n' *.txt
printf '%5.2f|%x\n' 3.14159 255
printf 'no newline'
basename "$PWD"

## cd and pwd
pwd
pwd -P
cd sub; pwd
cd sub/deep; pwd; cd ..; pwd
cd dirlink; pwd; pwd -P
cd dirlink && cd .. && pwd
cd -P dirlink; pwd
cd dirlink/..; pwd
cd -P dirlink/..; pwd
cd; pwd
cd ~; pwd
cd "$HOME/sub" && pwd
cd sub && cd - && pwd
cd -
cd nodir
cd nodir; pwd
cd nodir || echo stays
cd nodir && echo no; pwd
cd a.txt
cd ''
cd sub other
cd -- sub; pwd
cd -Z sub
cd .; pwd
cd ./sub/.././other; pwd
cd nodir/..; pwd
! cd sub; pwd
cd sub && cat one.py > ../copy
cd sub; ../run.sh z
cd sub && ls | head -n 1
cd emptydir; echo *
cd sub; cat < ../a.txt | head -n 1 > deep/first

## several at once
mkdir made && cd made && echo x > y && cd .. && cat made/y
rm a.txt && ls a.txt || echo gone
cp a.txt copy && cat copy | sort -u | tee sorted | wc -l
mv b.txt moved; cat b.txt 2>/dev/null || cat moved
touch x1 x2 x3 && ls x* | wc -l && rm x? && ls x*
grep -c apple a.txt && grep -c nothing a.txt; echo done
find . -name '*.py' | sort | head -n 2
find . -type f | wc -l
ls | sort | tail -n 2 > last; cat last
cut -d ' ' -f 1 b.txt | paste -s -d , -
sed -n 2p a.txt | tr -d '\n' && echo
awk '{ print $1 }' b.txt | sort
diff a.txt b.txt > diff.out || wc -l < diff.out
cmp a.txt a.txt && echo equal
tar cf all.tar a.txt b.txt && tar tf all.tar | sort
gzip -c a.txt | gzip -dc | cmp - a.txt && echo back
sort a.txt | comm -12 - a.txt | wc -l
sleep 0.05 | echo quick
sleep 0.02 && echo slept
timeout 0.05 sleep 5; echo $HOME
sh -c 'echo out; echo err >&2' 2>&1 | sort
sh -c 'echo out; echo err >&2' > o 2> e; cat e o
"""


def written() -> list[str]:
    """Return the lines that were written by hand."""
    return [line for line in WRITTEN.splitlines() if line and not line.startswith("##")]


FILES: Final = (
    "a.txt",
    "b.txt",
    "numbers",
    "'c d.txt'",
    "sub/one.py",
    "nofile",
    "link",
    "empty",
    "~/a.txt",
    '"$HOME"/b.txt',
)
NEW: Final = ("out", "sub/out", "a.txt", "b.txt", "nodir/out", "link", '"$PWD"/out', "dangling", "err", "'new file'")
WORDS: Final = (
    *("x", "'a b'", '"c  d"', "e\\ f", "*", "*.txt", "[a-m]*", "s*/*.py", "no*match", "~", "$HOME", '"$USER"', "$PWD"),
    *("?????", ".h*", "*/", "''", "-n", "-e", "'a\\tb'", "[!a-b]*", "é*", "*[0-9]*", "./*", "[[:upper:]]*"),
)
FOLDERS: Final = ("sub", "sub/deep", "dirlink", "nodir", "other", ".", "~", "~/sub", "a.txt", "emptydir", "$PWD")
SOURCES: Final = (
    *("cat {file}", "cat {file} {file}", "echo {words}", "seq {number}", "printf '%s\\n' {words}", "ls -d {words}"),
    *("sort {file}", "head -n 2 {file}", "grep -n a {file}", "wc -l {file}", "pwd", "true", "false", ":", "nosuch"),
    *(
        "./run.sh {number}",
        "./plain",
        "seq 30000",
        "cd {folder}",
        "test -e {file}",
        "[ {number} -lt 20 ]",
        "! cat {file}",
    ),
)
FILTERS: Final = (
    *(
        "cat",
        "sort",
        "sort -r",
        "head -n 1",
        "tail -n 2",
        "wc -l",
        "grep a",
        "tr a-z A-Z",
        "uniq",
        "cut -c 1-3",
        "tee {new}",
    ),
    *(
        "cat -n",
        "sed -n 1p",
        "true",
        "false",
        "head -c 5",
        "cat {file} -",
        "nosuch",
        "./slow.sh",
        "echo {words}",
        "tac",
    ),
)
CHANGES: Final = ("touch {new}", "rm {file}", "cp {file} {new}", "mv {file} {new}", "mkdir made", "rmdir emptydir")
REDIRECTS: Final = (
    *(
        "> {new}",
        ">> {new}",
        "< {file}",
        "2> {new}",
        "2>&1",
        ">&2",
        "2>/dev/null",
        ">| {new}",
        "> /dev/null",
        "&> {new}",
    ),
)


PLACES: Final = {"file": FILES, "new": NEW, "folder": FOLDERS, "number": ("3", "7", "50", "20000")}
#: Names of one file.
SAME: Final = {"link": "a.txt", "~/a.txt": "a.txt", '"$HOME"/b.txt': "b.txt", '"$PWD"/out': "out"}


class Generator:
    """Makes lines; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - lines for a test

    def line(self) -> str:
        """Return the next line."""
        text = self.pipeline()
        for _ in range(self.random.choice((0, 0, 1, 1, 2, 3))):
            text += self.random.choice((" && ", " || ", "; ")) + self.pipeline()
        return text

    def pipeline(self) -> str:
        """Return a command, or some with pipes between them."""
        if self.random.random() < 0.1:
            return self.command(CHANGES)[0]
        commands = [self.command(SOURCES)]
        for _ in range(self.random.choice((0, 0, 1, 1, 2, 3))):
            command = self.command(FILTERS)
            # Two commands that run at once and meet in a file race without end.
            while any(_meet(command[1], uses) for _, uses in commands):
                command = self.command(FILTERS)
            commands.append(command)
        text = " | ".join(text.removeprefix("! ") for text, _ in commands)
        return f"! {text}" if self.random.random() < 0.08 else text

    def command(self, templates: tuple[str, ...]) -> tuple[str, set[tuple[str, bool]]]:
        """Return a command with some redirects, and the files that it names, each with whether it is written."""
        text = self.random.choice(templates)
        for _ in range(self.random.choice((0, 0, 0, 1, 1, 2))):
            text += " " + self.random.choice(REDIRECTS)
        uses: set[tuple[str, bool]] = set()
        while (place := re.search(r"\{(\w+)\}", text)) is not None:
            chosen = self.chosen(place[1])
            if place[1] in ("file", "new"):
                uses.add((SAME.get(chosen, chosen), place[1] == "new"))
            text = text[: place.start()] + chosen + text[place.end() :]
        return text, uses

    def chosen(self, kind: str) -> str:
        """Return what stands for a place in a template."""
        if kind == "words":
            return " ".join(self.random.choices(WORDS, k=self.random.randint(1, 3)))
        return str(self.random.choice(PLACES[kind]))


def _meet(one: set[tuple[str, bool]], other: set[tuple[str, bool]]) -> bool:
    return any(name == known and (writes or written) for name, writes in one for known, written in other)
