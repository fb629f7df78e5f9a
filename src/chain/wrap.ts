import type { Backend } from '../backend/backend.js'
import type { Bytes } from '../backend/cached-value.js'
import { governLeases } from '../backend/delegate.js'
import { expectBackend } from '../backend/expect-backend.js'
import { CorralError, formatValue } from '../base/errors.js'
import { ignoreRejections } from '../base/parts.js'

/**
 * Puts proxies around a backend, listed from the backend outwards: the last one sees a caller's key and value first.
 * A layer that cannot work at its place does not compile, and the compiler names the layer.
 * @example
 * ```ts
 * import { makeRegion, wrap } from 'corral'
 * import { memory } from 'corral/backends/memory'
 * import { msgpack } from 'corral/proxies/msgpack'
 * import { prefix } from 'corral/proxies/prefix'
 *
 * const users = makeRegion({ backend: wrap(memory({ stores: 'bytes' }), msgpack(), prefix('shop:')) })
 * ```
 * @throws CorralError `ERR_CHAIN` if the first argument is no backend, or another one is no proxy.
 */
export function wrap<A, P extends Layer[]>(
  backend: Backend<A>,
  ...proxies: Checked<A, P>
): Backend<Outermost<A, P>>
export function wrap(backend: Backend, ...layers: Layer[]): Backend {
  let chain = expectBackend(backend, 'wrap() to start from a backend such as memory()')
  layers.forEach((layer, i) => {
    if (typeof layer !== 'function') {
      ignoreRejections(layers)
      throw new CorralError(
        'ERR_CHAIN',
        `Expected proxy ${i + 1} of wrap() to be a function from backend to backend, got ${formatValue(layer)}.`,
      )
    }
    const around = expectBackend(
      addLayer(layer, chain, i + 1),
      `proxy ${i + 1} of wrap() (${layer.name || 'unnamed'}) to return a backend`,
    )
    chain = governLeases(around, chain)
  })
  return chain
}

/** A factory that was not called, such as json instead of json(), takes the backend for its options and refuses it. */
function addLayer(layer: Layer, below: Backend, position: number): unknown {
  const notAProxy = (problem: string, cause?: unknown) =>
    new CorralError(
      'ERR_CHAIN',
      `Expected proxy ${position} of wrap() to be a function from backend to backend, got '${layer.name || 'unnamed'}', which ${problem} If it makes proxies, call it: ${layer.name || 'it'}(…).`,
      { cause },
    )
  let around: unknown
  try {
    around = layer(below)
  } catch (error) {
    throw CorralError.is(error, 'ERR_OPTION')
      ? notAProxy(`refuses the backend. ${error.message}`, error)
      : error
  }
  if (typeof around === 'function') throw notAProxy('returns a function.')
  return around
}

// biome-ignore lint/suspicious/noExplicitAny: the one place where a layer of any representation is accepted
type Layer = (next: any) => Backend<any>
/** Each proxy, and at one that does not fit the sentence that the compiler shows. */
type Checked<A, P extends readonly unknown[]> = {
  [I in keyof P]: P[I] & Fit<P[I], At<Stages<A, P>, I>, Place<I>>
}
/** The representation that the outermost layer offers. */
type Outermost<A, P extends readonly unknown[]> =
  Stages<A, P> extends [...unknown[], infer Last] ? Last : never
/** The representation below each proxy and above the last one: `[A, Out<P1, A>, …]`. */
type Stages<A, P extends readonly unknown[]> = P extends readonly [infer First, ...infer Rest]
  ? [A, ...Stages<Out<First, A>, Rest>]
  : [A]
type At<T, I> = I extends keyof T ? T[I] : never
/** `unknown` if the layer `P` fits over `Below`; otherwise the sentence. */
type Fit<P, Below, Name extends string> =
  unknown extends In<P>
    ? unknown
    : [In<P>, Below] extends [Below, In<P>]
      ? unknown
      : [Below] extends [Bytes]
        ? `${Name} works on values, but below it are bytes: put an encoding such as msgpack() below it`
        : `${Name} works on bytes, but below it are values already: move it below the encoding, or drop it`
/** The representation that a layer expects below it. A transparent layer infers `unknown`. */
type In<P> = P extends (next: Backend<infer X>) => unknown ? X : never
/** The representation that a layer offers above it, over `Below`. */
type Out<P, Below> = unknown extends In<P> ? Below : P extends (next: never) => Backend<infer X> ? X : never
type Ordinals = ['1st', '2nd', '3rd', '4th', '5th', '6th', '7th', '8th']
type Place<I> = I extends keyof Ordinals ? `the ${Ordinals[I] & string} proxy` : 'a proxy after the 8th'
