/** Closes backends at whose address nothing listens, or a frozen Sentinel, and prints for how many ms the process lives after that. */
import { redis } from '../../../backends/redis/index.js'

const frozen = process.argv[2]
const connection = { name: 'primary', sentinels: [{ host: '127.0.0.1', port: Number(frozen) }] }
for (let i = 0; i < 4; i++) {
  const timeout = 100 + 40 * i
  const backend =
    frozen === undefined ? redis({ url: 'redis://127.0.0.1:1', timeout }) : redis({ connection, timeout })
  await Promise.resolve(backend.get('k')).catch(() => {})
  await backend.close()
}
const closed = performance.now()
process.on('exit', () => console.log(performance.now() - closed))
