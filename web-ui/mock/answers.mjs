// What the mock model says. One answer shows everything the page can render, one attacks it, one is long.

const THOUGHT_EN = `The reader wants the difference between a process and a thread, with an example. I should
start with what they share and what they do not: address space, file descriptors, stack, registers.

A small table makes the comparison easy to scan. For the example, something runnable: Python's threading
module, with a lock, since a data race is the point people miss. Maybe mention Amdahl's law for the limit of
the speed-up. Keep it short.`;

// (Thoughts are plain text: a line end within a paragraph would show.)
const unwrap = (text) => text.replace(/(?<!\n)\n(?!\n)/g, ' ');

const ANSWER_EN = `A **process** owns its memory; **threads** share the memory of the process they live in.
Everything else follows from that.

| | Process | Thread |
|---|---|---|
| Memory | its own | shared with its siblings |
| Cost to start | about 1 ms | about 20 µs |
| A crash takes down | itself | all threads of the process |

Because threads share memory, two of them can change the same value at once. A lock keeps them in turn:

\`\`\`python
from threading import Lock, Thread

total, lock = 0, Lock()

def count(n: int) -> None:
    global total
    for _ in range(n):
        with lock:          # one thread at a time
            total += 1

workers = [Thread(target=count, args=(10_000,)) for _ in range(4)]
for worker in workers: worker.start()
for worker in workers: worker.join()
print(total)                # 40000, always
\`\`\`

More threads do not mean more speed without end. With a share $p$ of the work in parallel on $n$ cores,
Amdahl's law gives

$$S(n) = \\frac{1}{(1 - p) + \\frac{p}{n}}$$

so that even at $p = 0.9$ the limit is a factor of ten.

1. Use **processes** when parts must not be able to hurt each other.
2. Use **threads** when they work on the same data.
   - Measure before you add more of either.
`;

const THOUGHT_ZH = `用户想知道进程和线程的区别，并且要有例子。先说清楚最根本的一点：进程有自己的内存，线程共享所在进程的内存。

然后用一个小表格对比内存、开销和崩溃的影响。例子用 Python 的 threading，加上锁，因为数据竞争最容易被忽略。最后可以提一下阿姆达尔定律。`;

const ANSWER_ZH = `**进程**拥有自己的内存，**线程**共享所在进程的内存，其他区别都由此而来。

| | 进程 | 线程 |
|---|---|---|
| 内存 | 各自独立 | 与同伴共享 |
| 创建开销 | 约 1 毫秒 | 约 20 微秒 |
| 崩溃影响 | 只影响自己 | 整个进程 |

正因为共享内存，两个线程可能同时修改同一个值。锁让它们轮流进行：

\`\`\`python
from threading import Lock

total, lock = 0, Lock()

def count(n: int) -> None:
    global total
    for _ in range(n):
        with lock:          # 一次只允许一个线程
            total += 1
\`\`\`

并行部分占比为 $p$、核心数为 $n$ 时，阿姆达尔定律给出的加速比是

$$S(n) = \\frac{1}{(1 - p) + \\frac{p}{n}}$$

1. 各部分不应互相影响时，用**进程**。
2. 需要处理同一份数据时，用**线程**。
`;

const HOSTILE = `Look <img src="https://evil.example/leak?html" onerror="window.pwned=1"> here.

![tracker](https://evil.example/leak?md) and <script>window.pwned = 2</script>

<style>@import url(https://evil.example/leak.css);</style> <iframe src="https://evil.example/"></iframe>

[click](javascript:window.pwned=3) [data](data:text/html,<script>window.pwned=4</script>) [relative](/api/logout)
[fine](https://example.org/a?b=c) <a href="https://evil.example" onclick="window.pwned=5">raw</a>

<svg onload="window.pwned=6"><use href="https://evil.example/x.svg#a"></use></svg>
<form action="https://evil.example/"><input name="password"><button>Sign in</button></form>

\`\`\`html
<img src=x onerror="window.pwned=7">
\`\`\`

$\\href{javascript:window.pwned=8}{x}$ $\\includegraphics{https://evil.example/leak.png}$

The end of the attack.
`;

const isChinese = (text) => /[\u4e00-\u9fff]/.test(text);

/** Thought and answer to a question, by a few words in it. */
export function answerTo(question) {
  if (/hostile/i.test(question)) return { reasoning: null, content: HOSTILE };
  if (/story|故事/i.test(question)) return { reasoning: null, content: story() };
  if (isChinese(question)) return { reasoning: THOUGHT_ZH, content: ANSWER_ZH };
  return { reasoning: unwrap(THOUGHT_EN), content: ANSWER_EN };
}

function story() {
  return Array.from({ length: 80 }, (_, n) =>
    `Part ${n + 1}. The wels lay in the deep hole below the weir and listened to the river with its whiskers.`,
  ).join('\n\n');
}

/** Text in pieces about as long as tokens: a Chinese character or two, or most of a word. */
export function pieces(text) {
  return text.match(/[\u3000-\u9fff]{1,2}|\s*[^\s\u3000-\u9fff]{1,7}|\s+/gu) ?? [];
}
