/**
 * Spreads keys over servers by rendezvous hashing: the server with the largest weight for a key has it. If a server is
 * added to n, 1/(n+1) of the keys move, all of them to the new one. If one is removed, only its own keys move. The order
 * of the list does not matter.
 */
export function ring<S extends { readonly name: string }>(servers: readonly S[]): (key: string) => S {
  const [only, ...more] = servers
  if (only === undefined) throw new RangeError('no servers')
  if (more.length === 0) return () => only
  const seeds = servers.map(({ name }) => hash(name))
  return (key) => {
    const of = hash(key)
    let best = only
    let most = -1
    for (let i = 0; i < seeds.length; i++) {
      const weight = mix(of ^ mix(seeds[i] as number))
      if (weight > most) {
        most = weight
        best = servers[i] as S
      }
    }
    return best
  }
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let sum = 0x811c9dc5
  for (let i = 0; i < text.length; i++) sum = Math.imul(sum ^ text.charCodeAt(i), 0x01000193)
  return mix(sum)
}

/** Lets every bit of the input change every bit of the result. */
function mix(bits: number): number {
  let x = bits
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
  return (x ^ (x >>> 16)) >>> 0
}
