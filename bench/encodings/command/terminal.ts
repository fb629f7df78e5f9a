/** Whether standard output shows colours: a terminal, and no setting against colours. */
export const hasColors =
  process.stdout.isTTY === true && process.env.NO_COLOR === undefined && process.env.TERM !== 'dumb'

/** One line on standard error that rewrites itself; where that is no terminal, a line for each quarter. */
export function progressLine(stream: NodeJS.WriteStream = process.stderr): {
  (done: number, doing: string): void
  end(): void
} {
  let quarter = 0
  let last = 0
  const show = (done: number, doing: string): void => {
    if (!stream.isTTY) {
      if (done * 4 < quarter) return
      stream.write(`${Math.round(done * 100)} % ${doing}\n`)
      quarter = Math.floor(done * 4) + 1
      return
    }
    // Painting takes time that a measurement would see.
    const now = performance.now()
    if (now - last < 100) return
    last = now
    const cells = 24
    const full = Math.round(done * cells)
    const text = `${'█'.repeat(full)}${'░'.repeat(cells - full)} ${String(Math.round(done * 100)).padStart(3)} %  ${doing}`
    stream.write(`\r\u001b[2K${text.slice(0, Math.max(20, (stream.columns ?? 80) - 1))}`)
  }
  return Object.assign(show, {
    end: () => {
      if (stream.isTTY) stream.write('\r\u001b[2K')
    },
  })
}
