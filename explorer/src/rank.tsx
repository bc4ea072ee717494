import { useState } from "preact/hooks";
import type { Estimate, Galaxy } from "./api";
import { LookControls } from "./controls";
import { Details } from "./details";
import { Grid, lookFrom } from "./grid";
import { useFetched, useMapKey, useShared } from "./hooks";
import { askOf, changed, go, lookOf, type Place } from "./place";

/** The whole survey, ranked from the marks so far, and an estimate of what is left. */
export function Rank({ params }: Place) {
  const { progress } = useShared();
  const look = lookFrom(params);
  const ask = changed(askOf(params), { start: "rank" });
  const { value, error, busy } = useFetched<{ galaxies: Galaxy[]; total: number }>(`api/galaxies?${ask}`, progress?.version);
  const [hovered, setHovered] = useState<string | null>(null);
  useMapKey("rank", params);
  return (
    <div class="view">
      <LookControls tab="rank" params={changed(params, { start: "rank" })} />
      <div class="columns-of-view">
        <Details id={hovered ?? value?.galaxies[0]?.id ?? null} look={look} listed={value?.galaxies}>
          <Audit />
        </Details>
        <section class={busy ? "list busy" : "list"}>
          <p class="heading">
            {error ? (
              <span class="fault">{error.message}</span>
            ) : value ? (
              `the ${value.galaxies.length} most likely of ${value.total.toLocaleString("en")} galaxies${withProbability(value.galaxies)}`
            ) : (
              " "
            )}{" "}
            <button onClick={() => go("judge", changed(lookOf(params), { k: "20" }))}>Judge the next 20</button>
          </p>
          {value && (
            <Grid
              galaxies={value.galaxies}
              look={look}
              onPick={(galaxy) => go("search", changed(lookOf(params), { start: "similar", like: galaxy.id }))}
              onHover={(galaxy) => setHovered(galaxy.id)}
            />
          )}
        </section>
      </div>
    </div>
  );
}

function withProbability(galaxies: Galaxy[]): string {
  return galaxies[0]?.probability === undefined ? "; five positive and five negative labels give probabilities" : ", with the probability";
}

function Audit() {
  const { progress } = useShared();
  if (!progress) return null;
  return (
    <div class="audit">
      <Bar name="completeness" estimate={progress.completeness} hint="share of all positives that are judged" />
      <Bar name="prevalence" estimate={progress.prevalence} hint={`from ${progress.audited} galaxies drawn at random`} />
      {progress.calibration.length > 0 && (
        <table>
          <caption>probability and what was found</caption>
          <tbody>
            {progress.calibration.map(([predicted, found, n]) => (
              <tr key={predicted}>
                <th>{percent(predicted)}</th>
                <td>{percent(found)}</td>
                <td>of {n}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}

function Bar({ name, estimate, hint }: { name: string; estimate: Estimate | null; hint: string }) {
  return (
    <div class="estimate" title={hint}>
      <span>{name}</span>
      <b>{estimate ? `${percent(estimate.value)} (${percent(estimate.low)} to ${percent(estimate.high)})` : "judge more offers first"}</b>
      <span class="track">
        {estimate && <i style={{ left: `${estimate.low * 100}%`, width: `${(estimate.high - estimate.low) * 100}%` }} />}
      </span>
    </div>
  );
}

const percent = (share: number) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
