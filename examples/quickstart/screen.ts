const bold = (text: string) => (process.stdout.isTTY ? `\u001b[1m${text}\u001b[0m` : text)
const dim = (text: string) => (process.stdout.isTTY ? `\u001b[2m${text}\u001b[0m` : text)

interface Line {
  readonly what: string
  readonly result: string
  readonly time: string
}

/** Shows a step while it runs, and then its result. */
export function screen() {
  const width = 34
  return {
    title: (text: string) => console.log(`\n${bold(text)}`),
    note: (text: string) => console.log(dim(text)),
    async step(what: string, work: () => Promise<Omit<Line, 'what'>>): Promise<void> {
      const live = process.stdout.isTTY
      const started = performance.now()
      const show = () =>
        process.stdout.write(
          `\r  ${what.padEnd(width)} ${dim(`… ${((performance.now() - started) / 1000).toFixed(1)} s`)}`,
        )
      const timer = live ? setInterval(show, 100) : undefined
      if (live) show()
      try {
        const { result, time } = await work()
        if (live) process.stdout.write('\r\u001b[K')
        console.log(`  ${what.padEnd(width)} ${bold(time.padStart(9))}   ${result}`)
      } finally {
        clearInterval(timer)
      }
    },
  }
}

/** A time as a person reads it. */
export function took(milliseconds: number): string {
  if (milliseconds < 0.1) return `${(milliseconds * 1000).toFixed(1)} µs`
  return milliseconds < 100 ? `${milliseconds.toFixed(2)} ms` : `${milliseconds.toFixed(0)} ms`
}

export async function timed<T>(work: () => Promise<T>): Promise<readonly [value: T, milliseconds: number]> {
  const started = performance.now()
  const value = await work()
  return [value, performance.now() - started]
}
