/** Closes backends at whose address nothing listens, and prints for how many ms the process lives after that. */
import { redis } from '../../../backends/redis/index.js'

for (let i = 0; i < 4; i++) {
  const backend = redis({ url: 'redis://127.0.0.1:1', timeout: 100 + 40 * i })
  await Promise.resolve(backend.get('k')).catch(() => {})
  await backend.close()
}
const closed = performance.now()
process.on('exit', () => console.log(performance.now() - closed))
