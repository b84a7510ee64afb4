# %% [markdown]
# # A first look at returns
#
# Daily returns are not Gaussian, and they are not independent. What a scenario model must keep, measured on the
# embedded sample of six technology stocks (stale, and picked with hindsight: nothing here is about what they earn).

# %%
from pathlib import Path

import numpy as np
import pandas as pd

import foliocast as fc
from foliocast.workflows.pictures import lines

panel = fc.load_panel("sample")
returns = panel.returns().dropna()
print(panel)
print(panel.notice)

# %% [markdown]
# ## Is anything missing?

# %%
close = panel.close()
print(pd.DataFrame({"first": close.apply(pd.Series.first_valid_index), "missing": close.isna().sum()}).to_string())

# %% [markdown]
# ## Fat tails
#
# A Gaussian has excess kurtosis 0, and a day beyond four standard deviations once in 63 years.

# %%
z = (returns - returns.mean()) / returns.std()
shape = pd.DataFrame(
    {
        "volatility, annual": returns.std() * 252**0.5,
        "skewness": returns.skew(),
        "excess kurtosis": returns.kurt(),
        "days beyond 4 sigma": (z.abs() > 4).sum(),
    }
)
print(shape.round(2).to_string())
assert (shape["excess kurtosis"] > 3).all()

# %% [markdown]
# ## Volatility comes in clusters
#
# Returns hardly remember; their size does, for months.

# %%
lags = [1, 5, 21, 63]
memory = pd.DataFrame(
    {
        "of returns": [returns.apply(lambda r, k=k: r.autocorr(k)).mean() for k in lags],
        "of their size": [returns.abs().apply(lambda r, k=k: r.autocorr(k)).mean() for k in lags],
    },
    index=pd.Index(lags, name="lag"),
)
print(memory.round(3).to_string())
assert memory.loc[1, "of their size"] > 0.1 > abs(memory.loc[1, "of returns"])

# %% [markdown]
# ## Falls come together
#
# Correlation on the worst tenth of days of the average, against all days. A Gaussian with the same correlation would
# show *less* on selected days, so a higher number is news.

# %%
market = returns.mean(axis=1)
bad = returns[market < market.quantile(0.1)]
pairs = np.triu_indices(returns.shape[1], 1)
print(f"mean correlation: all days {returns.corr().to_numpy()[pairs].mean():.2f}", end=", ")
rng = np.random.default_rng(0)
same = pd.DataFrame(rng.multivariate_normal(returns.mean(), returns.cov(), len(returns)), columns=returns.columns)
chosen = same[same.mean(axis=1) < same.mean(axis=1).quantile(0.1)]
print(f"worst tenth {bad.corr().to_numpy()[pairs].mean():.2f}", end=", ")
print(f"worst tenth of a Gaussian {chosen.corr().to_numpy()[pairs].mean():.2f}")

# %% [markdown]
# ## Volatility over time

# %%
rolling = (returns[["NVDA", "GOOG"]].rolling(63).std() * 252**0.5 * 100).dropna().iloc[::5]
Path("volatility.svg").write_text(lines(rolling, "Volatility over 63 days, per cent a year"))

# %% [markdown]
# ![Volatility over time](volatility.svg)
#
# **What follows for a model:** filter the volatility first, then model what is left jointly, with its tails; that is
# what the better scenario models here do (see *Explanations*).
