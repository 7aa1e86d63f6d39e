# SPDX-FileCopyrightText: 2026 The kubepki.lifecycle authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ratios against a peer or a floor, measured in one run, so that a slow machine slows both."""
