select {{ var('dayz') }}
